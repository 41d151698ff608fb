"""Names that people take for one, though computers do not: the key that tells them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence


def likeness(name: str) -> str:
    """A key that is equal for names that look alike.

    They may differ in case, in the Unicode form of a character (composed or not, full width), in
    blanks around and between words, and in characters that show nothing.
    """
    if name.isascii():  # as nearly all paths are
        return " ".join(name.casefold().split())
    plain = unicodedata.normalize("NFKC", name)
    seen = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def alike(names: Iterable[str], *, key: Callable[[str], str] = likeness) -> list[list[str]]:
    """The distinct names that look like another one, together with it, in the order given."""
    by_key: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_key.setdefault(key(name), []).append(name)
    return [members for members in by_key.values() if len(members) > 1]


def escaped(names: Sequence[str], *, most: int = 5) -> str:
    """The first few names, each such that it can be told from others that look like it.

    What lies beyond ASCII is escaped in names that another of them looks like, and in no other.

    Args:
        names: any number of them.
        most: so many are shown, and the rest is counted.
    """
    twins = {name for members in alike(names) for name in members}
    shown = ", ".join(ascii(name) if name in twins else repr(name) for name in names[:most])
    left = len(names) - most
    return f"{shown} and {left:,} more" if left > 0 else shown
