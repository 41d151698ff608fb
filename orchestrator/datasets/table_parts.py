"""A table's path -> the files that make it up: one, or one for each split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from orchestrator.datasets.files import suffix_of
from orchestrator.datasets.saved_dataset import is_saved_dataset, saved_splits
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.table_file import TABLE_SUFFIXES, TABLES_ALLOWED
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split

_PATH = ("dataset", "path")
_ALLOWED = (
    "a table; a folder with a table for each split, such as train.csv and test.csv; or a data set "
    "that save_to_disk of Hugging Face wrote"
)


@dataclass(frozen=True)
class TablePart:
    """One file of a table, or one folder of a saved data set.

    Attributes:
        path: of the file or folder.
        shown: what messages call it.
        split: of its rows, where its name tells.
    """

    path: Path
    shown: str
    split: Split | None = None


def table_parts(path: Path, problems: Problems) -> list[TablePart]:
    """The files of the table, those of splits in the order of their names; none with a problem.

    Args:
        path: of a file, of a folder with a file for each split, or of a saved data set.
        problems: takes what is wrong.
    """
    if is_saved_dataset(path):
        return [TablePart(path, path.name)]
    if not path.is_dir():
        if suffix_of(path.name) in TABLE_SUFFIXES:
            return [TablePart(path, path.name)]
        problems.add(_PATH, f"got {path}; allowed: {TABLES_ALLOWED}")
        return []
    try:
        names = saved_splits(path) or _tables(path)
    except (OSError, pa.ArrowException) as error:
        problems.add(_PATH, f"{path} cannot be read: {error}")
        return []
    parts = [TablePart(path / name, name, split_of_file(name)) for name in names]
    of_splits = [part for part in parts if part.split is not None]
    if all(part.split is not Split.POOL for part in of_splits):
        held = f" It holds {some(names)}" if names else ""
        problems.add(_PATH, f"{path} is a folder; allowed: {_ALLOWED}.{held}")
        return []
    kinds = sorted({suffix_of(part.shown) for part in of_splits})
    if len(kinds) > 1:
        problems.add(
            _PATH, f"{path} holds tables of several kinds, {some(kinds)}; keep those of one"
        )
        return []
    return of_splits


def split_of_file(shown: str) -> Split | None:
    """The split that the first word of a file's name, or a folder of it, names."""
    *folders, name = PurePosixPath(shown).parts
    first = re.split(r"[^A-Za-z]", name, maxsplit=1)[0]
    return next(
        (split for word in (first, *folders) if (split := split_of(word)) is not None), None
    )


def _tables(folder: Path) -> list[str]:
    """Names of the tables in a folder, hidden ones aside."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if suffix_of(entry.name) in TABLE_SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    )
