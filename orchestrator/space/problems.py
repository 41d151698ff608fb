"""What is wrong with a search-space file: collected while reading, told all at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.errors import SpaceError
from trainable.spec.refusals import KeyPath, did_you_mean, dotted, shown

NO_FILE = "search space"
"""Name, in messages, of a search space that was not read from a file."""

_MAX_NAMED = 5


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


def some(items: Sequence[str]) -> str:
    """The first few of many names, on one line, and how many more there are."""
    named = ", ".join(shown(item) for item in items[:_MAX_NAMED])
    left = len(items) - _MAX_NAMED
    return f"{named} and {left:,} more" if left > 0 else named


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
