"""The Typer app; the only module that turns exceptions into messages and exit codes."""

from __future__ import annotations

import functools
import gc
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from orchestrator.cli.commands import (
    backbones,
    cache,
    data,
    doctor,
    export,
    init,
    jobs,
    launch,
    leaderboard,
    predict,
    query,
    report,
    resume,
    status,
    submit,
    validate,
)
from orchestrator.cli.commands import list as list_command
from orchestrator.errors import SweepError, UsageError
from orchestrator.running.background import unfinished
from orchestrator.text import printable_lines

ALLOCATIONS = 20_000
"""Allocations between two garbage collections. Imports allocate many objects that stay; at
Python's default of 700, collections take a seventh of the import time."""

PLATFORMS = (
    "sft-sweep runs on Linux and macOS; on Windows, use it in the Windows Subsystem for Linux (WSL)"
)

app = typer.Typer(
    name="sft-sweep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Which pretrained backbone, frozen how deep, at which learning rate, with how many labels? "
        "Sweeps of supervised fine-tuning on few labelled images, answered with intervals."
    ),
)


def _with_exit_code(command: Callable[..., int]) -> Callable[..., None]:
    """The command wrapped so that the app exits with the code that it returns."""

    @functools.wraps(command)
    def run_and_exit(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(command(*args, **kwargs))

    # Click keeps the line breaks of a paragraph marked with the control character \b; in the raw
    # docstrings of commands it is spelled as backslash and letter.
    run_and_exit.__doc__ = (command.__doc__ or "").replace("\\b\n", "\b\n")
    return run_and_exit


_COMMANDS: dict[str, Callable[..., int]] = {
    "launch": launch.launch,
    "resume": resume.resume,
    "submit": submit.submit,
    "logs": jobs.logs,
    "stop": jobs.stop,
    "status": status.status,
    "list": list_command.list_runs,
    "leaderboard": leaderboard.leaderboard,
    "query": query.query,
    "report": report.report,
    "export": export.export,
    "predict": predict.predict,
    "init": init.init,
    "data": data.data,
    "validate": validate.validate,
    "backbones": backbones.backbones,
    "doctor": doctor.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_with_exit_code(_command))
app.add_typer(cache.cache, name="cache")
for _name, _command in {"info": cache.info, "clear": cache.clear}.items():
    cache.cache.command(_name)(_with_exit_code(_command))


def main() -> None:
    """Run the command line of this process and exit with its code."""
    gc.set_threshold(ALLOCATIONS)
    code = run(sys.argv[1:])
    if unfinished():  # Python's shutdown would tear down modules that the thread uses
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; print its error messages on stderr and return its exit code.

    Args:
        arguments: command-line arguments without the program's name.
    """
    logging.getLogger("sft_sweep").addFilter(_make_printable)
    _escape_what_cannot_be_encoded()
    if not _is_unix():
        print(PLATFORMS, file=sys.stderr)
        return UsageError.exit_code
    try:
        app(args=arguments, prog_name="sft-sweep")
    except SystemExit as end:  # Typer's own codes: 2 for usage errors, 130 for Ctrl-C
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SweepError as error:
        print(printable_lines(str(error)), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0
    except Exception as error:
        if _is_trainable_error(error):
            print(printable_lines(str(error)), file=sys.stderr)
            return 2
        traceback.print_exc()
        print("unexpected error; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def _is_unix() -> bool:
    """Whether files can be locked as this program locks them."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return sys.platform != "win32"  # where a package may have the module's name


def _escape_what_cannot_be_encoded() -> None:
    """Make stdout and stderr print backslash escapes for characters that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _make_printable(record: logging.LogRecord) -> bool:
    """Apply `printable_lines` to a log message: it may contain names of files and classes.

    Returns:
        True, so that logging keeps the record.
    """
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return True


def _is_trainable_error(error: Exception) -> bool:
    """Whether an error is one of `trainable`; does not import `trainable`, and so not torch."""
    module = sys.modules.get("trainable.errors")
    return module is not None and isinstance(error, module.TrainableError)
