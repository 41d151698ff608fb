"""Redirection of other code's output from stdout to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, cast

_STDOUT, _STDERR = 1, 2
"""File descriptors."""


class _Stderr:
    """The current `sys.stderr` at every use, because a progress view may replace it meanwhile."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send everything to stderr that is printed on stdout during the block.

    This covers `print`, compiled code, and processes that are started during the block, for as long
    as they run. Other programs read a command's stdout, which may therefore have nothing but the
    command's result.
    """
    if sys.stderr is None:  # the parent process closed it
        with open(os.devnull, "w") as nowhere, _printing_to(nowhere, nowhere.fileno()):  # noqa: PTH123
            yield
    else:
        with _printing_to(cast("IO[str]", _Stderr()), _STDERR):
            yield


@contextlib.contextmanager
def _printing_to(stream: IO[str], descriptor: int) -> Iterator[None]:
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # the parent process closed stdout
        kept = None
    os.dup2(descriptor, _STDOUT)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        if kept is None:
            os.close(_STDOUT)
        else:
            os.dup2(kept, _STDOUT)
            os.close(kept)
