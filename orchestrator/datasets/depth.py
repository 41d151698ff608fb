"""Detection of class folders one level above or below the folder that was named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePath

from orchestrator.datasets.file_kinds import IMAGES, FileKind
from orchestrator.datasets.files import suffix_of
from orchestrator.datasets.table_file import TABLE_SUFFIXES
from orchestrator.space.problems import some
from trainable.spec.refusals import shown

_LEAST_CLASSES = 2
_MOST_LOOKED_AT = 1000
"""Largest number of entries that are inspected in a folder."""


def below(path: Path, examples: Sequence[str], kind: FileKind) -> str | None:
    """Why the class folders lie deeper, where all examples lie in one folder; or None.

    Args:
        path: the folder that was named.
        examples: paths of the examples, relative to it.
        kind: of the examples.
    """
    if not examples:
        return None
    common = os.path.commonpath([PurePath(example).parent for example in examples])
    if not common:
        return None
    inside = [example[len(common) + 1 :].partition(os.sep) for example in examples]
    inner = sorted({folder for folder, is_deeper, _ in inside if is_deeper})
    if len(inner) >= _LEAST_CLASSES:
        return (
            f"all {kind.noun}s lie in {shown(common)}, in the folders {some(inner)}. If these are "
            f"the classes, or splits with classes, say dataset.path: {path / common}"
        )
    tables = _tables(path, kind) or _tables(path / common, kind)
    if tables:
        return (
            f"all images lie in {shown(common)}, without class folders. For a table that knows "
            f"their classes, say dataset: {{source: table, path: {tables[0]}}}"
        )
    return None


def above(path: Path, files: Sequence[str], kind: FileKind) -> str:
    """What a problem line adds of a folder of examples where the class folders are one level up.

    Args:
        path: folder in the search-space file.
        files: names of the files in it.
        kind: of the examples.
    """
    if not any(map(kind.includes, files)):
        return ""
    tables = _tables(path, kind)
    if tables:
        return f". For a table that knows their classes: {{source: table, path: {tables[0]}}}"
    folder = path.absolute()
    beside = [name for name in _names(folder.parent) if _holds(folder.parent / name, kind)]
    if folder.name not in beside or len(beside) < _LEAST_CLASSES:
        return ""
    return (
        f". {folder.parent} holds {some(beside)} with {kind.noun}s; if these are the classes, say "
        f"dataset.path: {folder.parent}"
    )


def is_table(name: str) -> bool:
    """Whether a file in a folder is taken for a table by its name."""
    return suffix_of(name) in TABLE_SUFFIXES and suffix_of(name) != ".txt"


def _tables(folder: Path, kind: FileKind) -> list[Path]:
    """The files in a folder that may be tables of its images, in the order of their names.

    Texts lie in a table themselves, so that a table beside texts is not one of them.
    """
    return [folder / name for name in _names(folder) if kind is IMAGES and is_table(name)]


def _holds(folder: Path, kind: FileKind) -> bool:
    return folder.is_dir() and any(map(kind.includes, _names(folder)))


def _names(folder: Path) -> list[str]:
    """Return the names in a folder without hidden ones; empty if it cannot be read."""
    try:
        names = [entry.name for entry in islice(folder.iterdir(), _MOST_LOOKED_AT)]
    except OSError:
        return []
    return sorted(name for name in names if not name.startswith("."))
