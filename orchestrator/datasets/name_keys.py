"""Keys that are equal for names that look alike to people."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence


def likeness(name: str) -> str:
    """Return a key that is equal for names that look alike.

    Ignored are case, the Unicode form of characters (composed or not, full width), blanks around
    and between words, and invisible characters.
    """
    if name.isascii():  # as nearly all paths are
        return " ".join(name.casefold().split())
    plain = unicodedata.normalize("NFKC", name)
    seen = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def alike(names: Iterable[str], *, key: Callable[[str], str] = likeness) -> list[list[str]]:
    """Return groups of distinct names that look alike, in the order given."""
    by_key: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_key.setdefault(key(name), []).append(name)
    return [members for members in by_key.values() if len(members) > 1]


def escaped(names: Sequence[str], *, most: int = 5) -> str:
    """Return the first few names, written so that names that look alike can be told apart.

    Characters outside ASCII are escaped only in names that look like another one.

    Args:
        names: the names.
        most: number of names that are shown; the rest is counted.
    """
    twins = {name for members in alike(names) for name in members}
    shown = ", ".join(ascii(name) if name in twins else repr(name) for name in names[:most])
    left = len(names) - most
    return f"{shown} and {left:,} more" if left > 0 else shown
