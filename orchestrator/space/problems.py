"""Problems of a search-space file, collected while reading and raised together."""

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
        command: command that checks the file again.
    """

    def __init__(self, where: str, *, command: str = "validate") -> None:
        self.where = where
        self.command = command
        self._found: list[tuple[KeyPath, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: KeyPath, text: str) -> None:
        """Add one problem of the key at `path`."""
        self._found.append((path, text))

    def concern(self, path: KeyPath) -> bool:
        """Return whether there is a problem at the path or below it."""
        return any(found[: len(path)] == path for found, _ in self._found)

    def raise_if_any(self, given: object) -> None:
        """Raise all problems in the order of the keys in `given`, missing keys last.

        Raises:
            SpaceError: there was a problem.
        """
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda problem: _position(problem[0], given))
        lines = (f"{dotted(path)}: {text}" for path, text in ordered)
        raise space_error(self.where, *lines, command=self.command)


def space_error(where: str, *lines: str, command: str = "validate") -> SpaceError:
    """Return the error with these problems, one per line, and the command to check again."""
    count = f"{len(lines)} problem" + ("s" if len(lines) > 1 else "")
    told = [f"{where}: {count}", *(f"  {line}" for line in lines)]
    if where != NO_FILE:
        told.append(f"Check again with: sft-sweep {command} {shlex.quote(where)}")
    return SpaceError("\n".join(told))


def some(items: Sequence[str]) -> str:
    """Return the first few names on one line, and the number of the rest."""
    named = ", ".join(shown(item) for item in items[:_MAX_NAMED])
    left = len(items) - _MAX_NAMED
    return f"{named} and {left:,} more" if left > 0 else named


def unknown(kind: str, word: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    """Return the problem line for an unknown key.

    Args:
        kind: kind of key: `key` or `axis`.
        word: the key given.
        known: the keys allowed here.
        homes: dotted path by key, for keys that belong elsewhere; a top-level key is its own path.
    """
    known = tuple(known)
    if homes.get(word) == word:
        return f"unknown {kind} here; it belongs to the top level"
    if word in homes:
        return f"unknown {kind} here; did you mean {homes[word]}?"
    hint = did_you_mean(word, known) or did_you_mean(word, homes.values())
    return f"unknown {kind}{hint or '; known: ' + ', '.join(known)}"


def _position(path: KeyPath, given: object) -> tuple[int, ...]:
    """Return the position of a key in the file, comparable with those of other keys."""
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
