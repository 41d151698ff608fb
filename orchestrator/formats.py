"""Numbers and words as people read them, on a terminal and in a report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(text: str) -> str:
    """Text from outside without what could steer a terminal, or end its line."""
    return "".join(char if char.isprintable() else "?" for char in text)


def plain_lines(text: str) -> str:
    """Lines of text from outside, each of them `plain`."""
    return "\n".join(plain(line) for line in text.expandtabs().split("\n"))


def percent(share: float | None) -> str:
    """A share in 0..1 as a percentage with one decimal; nothing for None."""
    return "" if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign; nothing for None."""
    return "" if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number in its shortest form with so many digits; nothing for None."""
    return "" if value is None else f"{value:.{digits}g}"


def tie(row: Mapping[str, Any]) -> str:
    """Whether a row of a leaderboard differs from the best; nothing for that, or if unknown."""
    if row["tied_with_best"] is None or row["rank"] == 1:
        return ""
    return "tied" if row["tied_with_best"] else "differs"


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
