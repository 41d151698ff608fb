"""Names from files in printable form: shortened, without control characters."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMED = 3
_MOST_CHARACTERS = 100


def printable(name: str) -> str:
    """Return the name with unprintable characters escaped, cut off if it is long."""
    shown = name[:_MOST_CHARACTERS] + ("..." if len(name) > _MOST_CHARACTERS else "")
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


def few(names: Sequence[str]) -> str:
    """Return the first names, and the number of the rest."""
    more = len(names) - _MOST_NAMED
    shown = ", ".join(printable(name) for name in names[:_MOST_NAMED])
    return shown + (f" and {more:,} more" if more > 0 else "")
