"""What is wrong with a search-space file: collected while reading, told all at once."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from orchestrator.errors import SpaceError

KeyPath = tuple[str | int, ...]
"""Keys from the top of the file down; whole numbers count the entries of a list."""

NO_FILE = "search space"
"""What messages call a search space that no file holds."""

_PLAIN_KEY = re.compile(r"[\w@*<-]{1,60}", re.ASCII)
_MAX_SHOWN_CHARS = 60
_MAX_SHOWN_ITEMS = 8
_MAX_SHOWN_DEPTH = 3
_MAX_NAMED = 5
_MAX_COMPARED_CHARS = 80


class Problems:
    """The problems found so far in one file.

    Attributes:
        where: the file, as the user named it.
        command: the one that looks for them again.
    """

    def __init__(self, where: str, *, command: str = "validate") -> None:
        self.where = where
        self.command = command
        self._found: list[tuple[KeyPath, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: KeyPath, text: str) -> None:
        """Notes one problem of the key at `path`."""
        self._found.append((path, text))

    def concern(self, path: KeyPath) -> bool:
        """Whether something is wrong at the path or below, so that what it says is unknown."""
        return any(found[: len(path)] == path for found, _ in self._found)

    def raise_if_any(self, given: object) -> None:
        """Raises what was found, in the order of the keys in `given`; keys it lacks come last.

        Raises:
            SpaceError: there was a problem.
        """
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda problem: _position(problem[0], given))
        lines = (f"{dotted(path)}: {text}" for path, text in ordered)
        raise space_error(self.where, *lines, command=self.command)


def space_error(where: str, *lines: str, command: str = "validate") -> SpaceError:
    """The error that tells these problems, one a line, and how a file is checked again."""
    count = f"{len(lines)} problem" + ("s" if len(lines) > 1 else "")
    told = [f"{where}: {count}", *(f"  {line}" for line in lines)]
    if where != NO_FILE:
        told.append(f"Check again with: sft-sweep {command} {shlex.quote(where)}")
    return SpaceError("\n".join(told))


def dotted(path: KeyPath) -> str:
    """The path as users write it: `search.lr.cases[0].low`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if _PLAIN_KEY.fullmatch(part) else shown(part)
            text += f".{plain}" if text else plain
    return text


def shown(value: object) -> str:
    """The value on one line of bounded length, close to how YAML spells it."""
    text = _spelled(value, depth=0)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 3] + "..."


def some(items: Sequence[str]) -> str:
    """The first few of many names, on one line, and how many more there are."""
    named = ", ".join(shown(item) for item in items[:_MAX_NAMED])
    left = len(items) - _MAX_NAMED
    return f"{named} and {left:,} more" if left > 0 else named


def refusal(value: object, allowed: str, words: Iterable[str] = ()) -> str:
    """What a problem line says of a value that is not allowed."""
    return f"got {shown(value)}; allowed: {allowed}{did_you_mean(value, words)}"


def unknown(kind: str, word: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    """What a problem line says of an unknown key.

    Args:
        kind: what the key would have been: `key`, `axis`.
        word: the key given.
        known: the keys allowed here.
        homes: keys that belong elsewhere -> their dotted path; at the top level, themselves.
    """
    known = tuple(known)
    if homes.get(word) == word:
        return f"unknown {kind} here; it belongs to the top level"
    if word in homes:
        return f"unknown {kind} here; did you mean {homes[word]}?"
    hint = did_you_mean(word, known) or did_you_mean(word, homes.values())
    return f"unknown {kind}{hint or '; known: ' + ', '.join(known)}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known spelling, or nothing."""
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


def _position(path: KeyPath, given: object) -> tuple[int, ...]:
    """Where the key lies in the file; comparable with the position of every other key."""
    position = []
    for part in path:
        if isinstance(part, int):
            position.append(part)
            given = given[part] if isinstance(given, list) and part < len(given) else None
        elif isinstance(given, Mapping) and part in given:
            position.append(list(given).index(part))
            given = given[part]
        else:
            position.append(len(given) if isinstance(given, Mapping) else 0)
            break
    return tuple(position)
