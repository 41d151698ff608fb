"""Printing of Rich renderables on stdout."""

from __future__ import annotations

import io
import shutil
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 200
"""Width in columns of output to a file or a pipe."""


def print_rich(what: RenderableType, *, width: int | None = None) -> None:
    """Print on stdout.

    Args:
        what: a Rich renderable.
        width: columns to use if stdout is no terminal; None for `PIPED_WIDTH`.
    """
    from rich.console import Console

    columns = output_width() if width is None or sys.stdout.isatty() else width
    Console(width=columns, highlight=False, markup=False, emoji=False).print(what)


def output_width() -> int:
    """Width of stdout in columns: that of the terminal, else `PIPED_WIDTH`."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH


def data_stdout() -> IO[str]:
    """Stdout for data that programs read: in UTF-8 unless it is a terminal, which has its own.

    CSV and Markdown have no escapes of their own: one of what a locale, or PYTHONIOENCODING, cannot
    encode would be another name than the one that was meant.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    return sys.stdout
