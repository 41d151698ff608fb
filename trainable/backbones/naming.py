"""Names from files as messages show them: shortened, without control characters."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.spec.refusals import escaped

_MOST_NAMED = 3
_MOST_CHARACTERS = 100


def shortened(name: str) -> str:
    """Return the name with unprintable characters escaped, cut off if it is long."""
    return escaped(name[:_MOST_CHARACTERS] + ("..." if len(name) > _MOST_CHARACTERS else ""))


def few(names: Sequence[str]) -> str:
    """Return the first names, and the number of the rest."""
    more = len(names) - _MOST_NAMED
    shown = ", ".join(shortened(name) for name in names[:_MOST_NAMED])
    return shown + (f" and {more:,} more" if more > 0 else "")
