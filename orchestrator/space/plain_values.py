"""Values of a Python program -> the plain values that a search-space file could hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from orchestrator.space.problems import Problems
from trainable.spec.refusals import KeyPath, refusal

ALLOWED = "text, numbers, True, False, None, lists and mappings"


def plain_mapping(
    given: Mapping[Any, object], problems: Problems, *, path: KeyPath = ()
) -> dict[str, object]:
    """Return the mapping with text keys and plain values; other values become problems.

    Args:
        given: a mapping with arbitrary values.
        problems: values that a file cannot hold are added here.
        path: key path of the mapping.
    """
    return _mapping(given, problems, path, above=())


def _mapping(
    given: Mapping[Any, object], problems: Problems, path: KeyPath, *, above: tuple[int, ...]
) -> dict[str, object]:
    return {
        str(key): _plain(value, problems, (*path, str(key)), above=(*above, id(given)))
        for key, value in given.items()
    }


def _plain(value: Any, problems: Problems, path: KeyPath, *, above: tuple[int, ...]) -> object:
    """Return the plain value; None, and a problem, if a file cannot hold it.

    Args:
        value: anything.
        problems: values that a file cannot hold are added here.
        path: key path of the value.
        above: ids of the containers around the value.
    """
    if id(value) in above:
        problems.add(path, "holds itself; allowed: what a file can say")
        return None
    if isinstance(value, Mapping):
        return _mapping(value, problems, path, above=above)
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy, which need no import here
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        inside = (*above, id(value))
        return [
            _plain(item, problems, (*path, place), above=inside) for place, item in enumerate(value)
        ]
    problems.add(path, refusal(value, ALLOWED))
    return None
