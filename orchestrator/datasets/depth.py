"""Detection of class folders one level above or below the folder that was named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePath

from orchestrator.datasets.files import is_image, suffix_of
from orchestrator.datasets.table_file import TABLE_SUFFIXES
from orchestrator.space.problems import some
from trainable.spec.refusals import shown

_LEAST_CLASSES = 2
_MOST_LOOKED_AT = 1000
"""Largest number of entries that are inspected in a folder."""


def below(path: Path, images: Sequence[str]) -> str | None:
    """Return why the class folders seem to lie deeper, or None.

    Args:
        path: folder in the search-space file.
        images: paths of the images, relative to it.
    """
    if not images:
        return None
    common = os.path.commonpath([PurePath(image).parent for image in images])
    if not common:
        return None
    inside = [image[len(common) + 1 :].partition(os.sep) for image in images]
    inner = sorted({folder for folder, is_deeper, _ in inside if is_deeper})
    if len(inner) >= _LEAST_CLASSES:
        return (
            f"all images lie in {shown(common)}, in the folders {some(inner)}. If these are the "
            f"classes, or splits with classes, say dataset.path: {path / common}"
        )
    tables = _tables(path) or _tables(path / common)
    if tables:
        return (
            f"all images lie in {shown(common)}, without class folders. For a table that knows "
            f"their classes, say dataset: {{source: table, path: {tables[0]}}}"
        )
    return None


def above(path: Path, files: Sequence[str]) -> str:
    """Return a hint for a folder of images whose class folders are one level up, or "".

    Args:
        path: folder in the search-space file.
        files: names of the files in it.
    """
    if not any(map(is_image, files)):
        return ""
    tables = _tables(path)
    if tables:
        return f". For a table that knows their classes: {{source: table, path: {tables[0]}}}"
    folder = path.absolute()
    beside = [name for name in _names(folder.parent) if _holds_images(folder.parent / name)]
    if folder.name not in beside or len(beside) < _LEAST_CLASSES:
        return ""
    return (
        f". {folder.parent} holds {some(beside)} with images; if these are the classes, say "
        f"dataset.path: {folder.parent}"
    )


def _tables(folder: Path) -> list[Path]:
    """Return the files in a folder that may be tables of images, sorted by name."""
    return [
        folder / name
        for name in _names(folder)
        if suffix_of(name) in TABLE_SUFFIXES and suffix_of(name) != ".txt"
    ]


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(is_image, _names(folder)))


def _names(folder: Path) -> list[str]:
    """Return the names in a folder without hidden ones; empty if it cannot be read."""
    try:
        names = [entry.name for entry in islice(folder.iterdir(), _MOST_LOOKED_AT)]
    except OSError:
        return []
    return sorted(name for name in names if not name.startswith("."))
