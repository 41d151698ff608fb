"""The app, and the one place where exceptions become messages and exit codes."""

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
from orchestrator.text import plain_lines

ALLOCATIONS = 20_000
"""Objects between two collections of garbage. Imports make many that stay, and Python's usual 700
has it look through them for a seventh of the time that they take."""

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


def _exiting(command: Callable[..., int]) -> Callable[..., None]:
    """The command, ending with the exit code that it returns."""

    @functools.wraps(command)
    def run_and_exit(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(command(*args, **kwargs))

    # Raw docstrings spell the mark that keeps the lines of the examples apart; Click takes the
    # control character alone.
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
    app.command(_name)(_exiting(_command))
app.add_typer(cache.cache, name="cache")
for _name, _command in {"info": cache.info, "clear": cache.clear}.items():
    cache.cache.command(_name)(_exiting(_command))


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    gc.set_threshold(ALLOCATIONS)
    code = run(sys.argv[1:])
    if unfinished():  # Python's own end would tear down what the thread is in the middle of
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command; messages have been written by then."""
    logging.getLogger("sft_sweep").addFilter(_steering_no_terminal)
    _escape_what_cannot_be_encoded()
    if not _is_unix():
        print(PLATFORMS, file=sys.stderr)
        return UsageError.exit_code
    try:
        app(args=arguments, prog_name="sft-sweep")
    except SystemExit as end:  # usage errors are 2 and Ctrl-C is 130: Typer's own codes
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SweepError as error:
        print(plain_lines(str(error)), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0
    except Exception as error:
        if _is_trainable_error(error):
            print(plain_lines(str(error)), file=sys.stderr)
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
    """Print any name on any terminal, with escapes for letters that it does not know."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _steering_no_terminal(record: logging.LogRecord) -> bool:
    """Makes a message `plain`: it may name files and classes, and people look at logs, too."""
    record.msg, record.args = plain_lines(record.getMessage()), ()
    return True


def _is_trainable_error(error: Exception) -> bool:
    """Whether `trainable` refused something, asked without importing torch for it."""
    module = sys.modules.get("trainable.errors")
    return module is not None and isinstance(error, module.TrainableError)
