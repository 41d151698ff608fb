"""Printing of Rich renderables on stdout."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

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
