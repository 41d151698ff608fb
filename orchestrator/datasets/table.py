"""A CSV or Parquet table with one row per image: path and label, perhaps split and group."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa

from orchestrator.datasets import columns
from orchestrator.datasets.files import (
    FETCH,
    FOLLOW,
    Refusal,
    Root,
    file_reader,
    is_image,
    unfetched,
)
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.name_keys import alike, escaped, likeness
from orchestrator.datasets.sections import TableSection
from orchestrator.datasets.table_file import TABLE_SUFFIXES, TABLES_ALLOWED, TableFile
from orchestrator.datasets.table_paths import Speller, are_most, by_ending, remedies, spelled
from orchestrator.space.problems import Problems, some
from trainable.spec.refusals import shown

_PATH = ("dataset", "path")
_PATHS = ("dataset", "path_column")
_MOST_SOUGHT = 5
"""Largest number of paths for which similar files are searched."""
_SAVE = "; save it in UTF-8"
_WITH_ROOT = (Refusal.OUTSIDE, Refusal.LINKED)
_ELSEWHERE = (Refusal.OUTSIDE, Refusal.MISSING)
_WHAT_TO_DO = {Refusal.DEAD: FETCH, Refusal.LINKED: FOLLOW}


def list_images(section: TableSection, problems: Problems) -> Listing | None:
    """List the images that the table names; add problems if it is not usable."""
    path = Path(section.path)
    folder = Path(section.root) if section.root is not None else path.parent
    if section.root is not None and not folder.is_dir():
        problems.add(("dataset", "root"), f"{folder}: no such folder")
    read = _read(path, section, problems)
    if read is None:
        return None
    table, is_text = read
    if not len(table):
        problems.add(_PATH, f"{path} has no rows")
        return None
    paths = _texts(table, section, "path_column", problems)
    labels = _texts(table, section, "label_column", problems)
    words = _texts(table, section, "split_column", problems)
    groups = _texts(table, section, "group", problems)
    splits = None if words is None else columns.splits(words, ("dataset", "split_column"), problems)
    notes: list[Note] = []
    if is_text:
        labels = _without_blanks(labels, section.label_column, notes, merging=False)
        groups = _without_blanks(groups, section.group, notes, merging=True)
    if paths is not None and folder.is_dir():
        root = Root(folder, follow=section.links is not None)
        paths, notes_of_paths = _files_of(paths, section, root, problems)
        notes += notes_of_paths
    if len(problems) or paths is None or labels is None:
        return None
    return Listing.of(
        paths=paths,
        labels=labels,
        splits=splits,
        groups=groups,
        read=file_reader(folder, paths),
        notes=notes,
    )


def _read(path: Path, section: TableSection, problems: Problems) -> tuple[pa.Table, bool] | None:
    """Read the wanted columns, and return them with whether the table is a text file."""
    wanted = {
        key: getattr(section, key)
        for key in ("path_column", "label_column", "split_column", "group")
    }
    names = list(dict.fromkeys(name for name in wanted.values() if name is not None))
    if path.is_dir():
        problems.add(_PATH, f"{path} is a folder; allowed: a CSV or Parquet file")
        return None
    if path.suffix.lower() not in TABLE_SUFFIXES:
        problems.add(_PATH, f"got {path}; allowed: {TABLES_ALLOWED}")
        return None
    pointer = unfetched(path)
    if pointer is not None:
        problems.add(_PATH, f"{path} {pointer}")
        return None
    try:
        table = TableFile(path, wanted=names)
        if table.lacks_header and all(map(is_image, set(names) & set(table.names))):
            problems.add(
                _PATH,
                f"{path} begins with a row of an image, {some(table.names)}; write a line with the "
                "names of the columns above it, such as path and label",
            )
            return None
        if not columns.check_columns(list(wanted.items()), table.names, problems, where=str(path)):
            return None
        return table.read(names), table.is_text
    except FileNotFoundError:
        problems.add(_PATH, f"{path}: no such file")
    except UnicodeDecodeError:  # in names of columns; Arrow reports bad values itself
        problems.add(_PATH, f"{path} cannot be read: the names of its columns are not UTF-8{_SAVE}")
    except (OSError, pa.ArrowException) as error:
        told = " ".join(str(error).split())
        problems.add(_PATH, f"{path} cannot be read: {told}{_SAVE if 'UTF8' in told else ''}")
    return None


def _texts(
    table: pa.Table, section: TableSection, key: str, problems: Problems
) -> list[str] | None:
    name = getattr(section, key)
    if name is None:
        return None
    names = columns.class_names(table.schema, name) if key == "label_column" else []
    return columns.texts(table.column(name), ("dataset", key), problems, names=names)


def _without_blanks(
    values: list[str] | None, column: str | None, notes: list[Note], *, merging: bool
) -> list[str] | None:
    """Return the values of a text file without blanks around them, and note the change.

    Args:
        values: values of a column, or None for no column.
        column: its name.
        notes: a note is added here.
        merging: whether values may become equal; if not, and some would, all stay as they are.
    """
    if values is None:
        return None
    bare = {value: value.strip() for value in dict.fromkeys(values)}
    changed = [value for value, stripped in bare.items() if value != stripped]
    if not changed or (not merging and alike(bare)):
        return values
    notes.append(
        Note(f"blanks around values of column {shown(column)}, taken off: such as {changed[0]!r}")
    )
    return [bare[value] for value in values]


def _files_of(
    paths: list[str], section: TableSection, root: Root, problems: Problems
) -> tuple[list[str], list[Note]]:
    """Return the paths of existing files, after corrections, and notes about these.

    Adds problems for files that are missing, outside the root or in several rows.
    """
    mend = spelled if section.match is None else by_ending
    paths, notes = mend(paths, list(_refused(paths, root)), root)
    refused = _refused(paths, root)
    by_reason: dict[Refusal, list[str]] = {}
    for path in paths:
        if path in refused:
            by_reason.setdefault(refused[path], []).append(path)
    elsewhere = [path for path, reason in refused.items() if reason in _ELSEWHERE]
    told = [one.says(len(paths)) for one in remedies(paths, elsewhere, root)]
    for reason, bad in by_reason.items():
        where = f" {root.path}" if reason in _WITH_ROOT else ""
        hints = [_WHAT_TO_DO[reason]] if reason in _WHAT_TO_DO else []
        if reason in _ELSEWHERE:
            twins = _twins(bad, root)
            few = not are_most(len(elsewhere), len(paths))  # then similar files nearby explain more
            hints += twins or told if few else told or twins
            told = []
        problems.add(
            _PATHS,
            "; ".join(
                [
                    f"{len(bad):,} of {len(paths):,} {reason}{where}: {some(bad)}",
                    *(hints or [_advice(len(bad), len(paths), root)]),
                ]
            ),
        )
    return paths, notes + _check_twice(paths, root, problems)


def _advice(num_bad: int, num_paths: int, root: Root) -> str:
    """Return advice about paths that cannot be read for unknown reasons."""
    if are_most(num_bad, num_paths):
        return f"images are looked for in {root.path}; name another folder in dataset.root"
    return (
        f"put them into {root.path} and name them by their paths in it, or take their rows out of "
        "the table"
    )


def _refused(paths: list[str], root: Root) -> dict[str, Refusal]:
    """Return why paths cannot be read, for those that cannot, in their order."""
    found = ((path, root.refusal(path)) for path in dict.fromkeys(paths))
    return {path: reason for path, reason in found if reason is not None}


def _check_twice(paths: list[str], root: Root, problems: Problems) -> list[Note]:
    """Add a problem for files in several rows, and return a note of names that look alike."""
    twice = [path for path, count in Counter(paths).items() if count > 1]
    notes = []
    for members in alike(paths, key=lambda path: likeness(os.path.normpath(path))):
        if len({root.identity(path) for path in members}) < len(members):
            twice += members
        else:
            notes.append(escaped(members))
    if twice:
        problems.add(
            _PATHS, f"paths in several rows, though an image has one label: {escaped(twice)}"
        )
    if not notes:
        return []
    return [Note(f"paths that look alike, each with a file of its own: {len(notes):,}", (*notes,))]


def _twins(paths: list[str], root: Root) -> list[str]:
    """Return hints for a problem line: existing files that some of the paths may mean."""
    speller = Speller(root)
    found, several = [], []
    for path in paths[:_MOST_SOUGHT]:
        meant = speller.spell(path)
        twin = root.twin(path.replace("\\", "/")) if meant is None else meant[0]
        if twin is not None:
            found.append(f"{twin!a} for {path!a}")
        elif rivals := speller.rivals(path):
            several.append(f"{some(rivals)} for {shown(path)}")
    hints = [f"there are files that look alike: {', '.join(found)}"] if found else []
    return hints + ([f"there are several files for one path: {several[0]}"] if several else [])
