"""Messages for refused values: key, value given, values allowed, and a likely correction."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from itertools import islice

KeyPath = tuple[str | int, ...]
"""Keys from the top of the file down; integers are indices of list entries."""

_PLAIN_KEY = re.compile(r"[\w@*<-]{1,60}", re.ASCII)
_MAX_SHOWN_CHARS = 60
_MAX_SHOWN_ITEMS = 8
_MAX_SHOWN_DEPTH = 3
_MAX_COMPARED_CHARS = 80


def dotted(path: KeyPath) -> str:
    """Return the path as users write it: `search.lr.cases[0].low`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if _PLAIN_KEY.fullmatch(part) else shown(part)
            text += f".{plain}" if text else plain
    return text


def shown(value: object) -> str:
    """Return the value on one line of bounded length, similar to its YAML."""
    text = _spelled(value, depth=0)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 3] + "..."


def escaped(text: str) -> str:
    r"""The text with an escape such as `\x1b` for every character that is not printable."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def refusal(value: object, allowed: str, words: Iterable[str] = ()) -> str:
    """Return the message for a value that is not allowed."""
    return f"got {shown(value)}; allowed: {allowed}{did_you_mean(value, words)}"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Return the message for an unknown key."""
    known = tuple(known)
    return f"unknown key{did_you_mean(key, known) or '; known: ' + ', '.join(known)}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the most similar known word, or ""."""
    if not isinstance(word, str):
        return ""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(word[:_MAX_COMPARED_CHARS].lower(), by_lower, n=1)
    if not close:
        return ""
    meant = by_lower[close[0]]
    return f"; did you mean {meant if meant == ' '.join(meant.split()) else shown(meant)}?"


def _spelled(value: object, *, depth: int) -> str:
    if value is None:
        return "nothing" if depth == 0 else "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value[:_MAX_SHOWN_CHARS])
    if isinstance(value, int) and value.bit_length() > 192:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, Mapping | list | tuple):
        inner = "..."
        if depth < _MAX_SHOWN_DEPTH:
            inner = ", ".join(_entries(value, depth=depth + 1))
        return f"{{{inner}}}" if isinstance(value, Mapping) else f"[{inner}]"
    return repr(value)


def _entries(
    value: Mapping[str, object] | list[object] | tuple[object, ...], *, depth: int
) -> list[str]:
    if isinstance(value, Mapping):
        texts = [
            f"{dotted((key,))}: {_spelled(item, depth=depth)}"
            for key, item in islice(value.items(), _MAX_SHOWN_ITEMS)
        ]
    else:
        texts = [_spelled(item, depth=depth) for item in value[:_MAX_SHOWN_ITEMS]]
    return texts + (["..."] if len(value) > _MAX_SHOWN_ITEMS else [])
