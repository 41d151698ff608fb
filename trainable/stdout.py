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
    """`sys.stderr` as it is whenever it is used: a progress view puts itself in its place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed on stdout.

    That holds for `print`, for code without Python, and for processes that are started meanwhile,
    for as long as they run. Programs read what a command prints on stdout, so that nothing but its
    result may stand there.
    """
    if sys.stderr is None:  # closed by whoever started this process
        with open(os.devnull, "w") as nowhere, _printing_to(nowhere, nowhere.fileno()):  # noqa: PTH123
            yield
    else:
        with _printing_to(cast("IO[str]", _Stderr()), _STDERR):
            yield


@contextlib.contextmanager
def _printing_to(stream: IO[str], descriptor: int) -> Iterator[None]:
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # closed, too
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
