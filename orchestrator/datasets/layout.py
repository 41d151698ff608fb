"""Detection of folders that may be splits under unknown names rather than classes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import combinations

from orchestrator.datasets.listing import Note
from orchestrator.datasets.name_keys import likeness
from orchestrator.datasets.splits import SPLIT_WORDS, split_of
from orchestrator.space.problems import some

_LEAST_SHARED = 2
"""Smallest number of inner folder names that two folders share if they look like splits with
classes; a single one can be a habit of naming, such as `images`."""
_SHARE_OF_SMALLER = 0.5
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_REMEDY = (
    "If they are splits, call them train, val and test; if they are classes, say "
    "dataset.layout: classes"
)


def ambiguity(tops: Sequence[str], paths: Sequence[str], *, noun: str) -> str | None:
    """Why folders that would be taken for classes may be splits, and what to do; or None.

    Args:
        tops: names of the folders.
        paths: of the examples, relative to what holds the folders.
        noun: what messages call an example.
    """
    known = [top for top in tops if split_of(top) is not None]
    like = [top for top in tops if _names_split(top)]
    others = [top for top in tops if top not in like]
    if len(like) > 1 and (known or not others):
        beside = f" beside {some(others)}" if others else ""
        return f"holds {some(like)}{beside}, which may be splits or classes. {_REMEDY}"
    inside = _folders_inside(paths)
    for top in like:
        if len(inside.get(top, ())) >= _LEAST_SHARED and others:
            return (
                f"holds {some([top])}, whose {noun}s all lie in folders, beside {some(others)}. "
                f"{_REMEDY}"
            )
    several = [top for top in inside if len(inside[top]) >= _LEAST_SHARED]
    for one, other in combinations(several, 2):
        shared = inside[one].keys() & inside[other].keys()
        smaller = min(len(inside[one]), len(inside[other]))
        if len(shared) >= max(_LEAST_SHARED, _SHARE_OF_SMALLER * smaller):
            named = sorted(inside[one][key] for key in shared)
            return (
                f"the {noun}s of {some([one, other])} all lie in folders of the same names "
                f"({some(named)}). {_REMEDY}"
            )
    return None


def note_of_classes(tops: Sequence[str], *, noun: str) -> Note | None:
    """What to know where folders are classes, and some are called what splits are; or None.

    Args:
        tops: names of the folders, which leave no doubt; see `ambiguity`.
        noun: what messages call an example.
    """
    like = [top for top in tops if _names_split(top)]
    if not like:
        return None
    return Note(
        f"read as classes, like the folders beside them: {some(like)}. To make a folder of these a "
        "split, put class folders into it, and the other class folders into a folder train beside "
        f"it; {noun}s without labels have to be moved out. If it is a class, say dataset.layout: "
        "classes"
    )


def _names_split(name: str) -> bool:
    """Return whether a word of the name is one for a split: `test_set`, `train2017`."""
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in SPLIT_WORDS or word.removesuffix("set") in SPLIT_WORDS for word in words)


def _folders_inside(paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """By folder all of whose examples lie in folders inside it, the names of these by likeness."""
    found: dict[str, dict[str, str]] = {}
    direct = set()
    for path in paths:
        top, inner, *deeper = path.split(os.sep, 2)
        if deeper:
            found.setdefault(top, {})[likeness(inner)] = inner
        else:
            direct.add(top)
    return {top: inner for top, inner in found.items() if top not in direct}
