"""Numbers, words and tables as people read them."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 200
"""Columns of a table that goes to a file or a pipe."""


def print_rich(what: RenderableType) -> None:
    """Print on stdout; wide where that is no terminal."""
    from rich.console import Console

    Console(width=output_width(), highlight=False, markup=False, emoji=False).print(what)


def output_width() -> int:
    """Columns of stdout: the terminal's, or `PIPED_WIDTH` where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH


def percent(share: float | None) -> str:
    """A share in 0..1 as a percentage with one decimal; nothing for None."""
    return "" if share is None else f"{100 * share:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number in its shortest form with so many digits; nothing for None."""
    return "" if value is None else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; a dash where it is unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
