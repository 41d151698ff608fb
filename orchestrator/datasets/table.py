"""A table with a row an example: an image's path or a text, a label, maybe split and group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from orchestrator.datasets import columns
from orchestrator.datasets.files import Root, is_image, unfetched
from orchestrator.datasets.label_names import note_names_beside
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.name_keys import alike
from orchestrator.datasets.nouns import an
from orchestrator.datasets.sections import TableSection
from orchestrator.datasets.table_file import open_table
from orchestrator.datasets.table_images import images_at
from orchestrator.datasets.table_parts import TablePart, table_parts
from orchestrator.datasets.text_encoding import is_known
from orchestrator.datasets.texts import texts_in_memory
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.errors import DataError
from trainable.spec.refusals import shown

_PATH = ("dataset", "path")
_SPLIT = ("dataset", "split_column")


@dataclass(frozen=True)
class _Rows:
    """The wanted columns of one part of a table.

    Attributes:
        part: which one.
        table: the columns, by their names.
        is_delimited: whether blanks around values may have been written for looks alone.
        notes: what to know of how it was read.
        where: what messages call it; empty where the table has no other part.
    """

    part: TablePart
    table: pa.Table
    is_delimited: bool
    notes: Sequence[str]
    where: str


def list_examples(section: TableSection, problems: Problems) -> Listing | None:
    """The images or texts of the table; what is wrong with it goes to the problems."""
    path = Path(section.path)
    folder = Path(section.root) if section.root is not None else _around(path)
    if section.root is not None and not folder.is_dir():
        problems.add(("dataset", "root"), f"{folder}: no such folder")
    _check_keys(section, problems)
    rows = _read(path, section, problems) if is_known(section.encoding, problems) else None
    if rows is None:
        return None
    if not any(len(one.table) for one in rows):
        problems.add(_PATH, f"{path} has no rows")
        return None
    values = _texts(rows, section, section.content_key, problems)
    labels = _texts(rows, section, "label_column", problems)
    groups = _texts(rows, section, "group", problems)
    splits = _splits(rows, section, problems)
    notes = [Note(f"{one.part.shown}: {note}") for one in rows for note in one.notes]
    if all(one.is_delimited for one in rows):
        labels = _without_blanks(labels, section.label_column, notes, merging=False)
        groups = _without_blanks(groups, section.group, notes, merging=True)
    contents = None
    if values is not None and section.text_column is not None:
        contents = texts_in_memory(_row_names(rows), values)
    elif values is not None and folder.is_dir():
        root = Root(folder, follow=section.links is not None)
        contents = images_at(values, section, root, problems)
    if len(problems) or contents is None or labels is None:
        return None
    notes += note_names_beside(rows[0].part.path, section, sorted(set(labels)))
    return Listing.of(
        paths=contents.paths,
        labels=labels,
        splits=splits,
        groups=groups,
        read=contents.read,
        notes=(*notes, *contents.notes),
        modality=contents.modality,
    )


def _around(path: Path) -> Path:
    """The folder of a table."""
    return path if path.is_dir() else path.parent


def _check_keys(section: TableSection, problems: Problems) -> None:
    """Add problems of keys that do not go together."""
    if section.text_column is None:
        return
    for key in section.keys_of_images:
        if key in section.model_fields_set:
            problems.add(
                ("dataset", key), "is for images; leave it out, or leave out dataset.text_column"
            )


def _read(path: Path, section: TableSection, problems: Problems) -> list[_Rows] | None:
    """The wanted columns of every part, or None with a problem."""
    before = len(problems)
    parts = table_parts(path, problems)
    rows = [
        found
        for part in parts
        if (found := _read_part(part, section, problems, alone=len(parts) == 1)) is not None
    ]
    return rows if len(problems) == before and rows else None


def _read_part(
    part: TablePart, section: TableSection, problems: Problems, *, alone: bool
) -> _Rows | None:
    path = part.path
    keys = (section.content_key, "label_column", "split_column", "group")
    wanted = {key: getattr(section, key) for key in keys}
    names = list(dict.fromkeys(name for name in wanted.values() if name is not None))
    pointer = unfetched(path)
    if pointer is not None:
        problems.add(_PATH, f"{path} {pointer}")
        return None
    try:
        table = open_table(path, wanted=names, encoding=section.encoding)
        if table.lacks_header and all(map(is_image, set(names) & set(table.names))):
            problems.add(
                _PATH,
                f"{path} begins with a row of {an(section.modality)}, {some(table.names)}; write a "
                "line with the names of the columns above it, such as "
                f"{section.content_key.removesuffix('_column')} and label",
            )
            return None
        if not columns.check_columns(list(wanted.items()), table.names, problems, where=str(path)):
            return None
        return _Rows(
            part,
            table.read(names),
            table.is_delimited,
            table.notes,
            "" if alone else part.shown,
        )
    except FileNotFoundError:
        problems.add(_PATH, f"{path}: no such file")
    except DataError as error:
        problems.add(_PATH, f"{path} {error}")
    except (OSError, pa.ArrowException) as error:
        problems.add(_PATH, f"{path} cannot be read: {' '.join(str(error).split())}")
    return None


def _texts(
    rows: Sequence[_Rows], section: TableSection, key: str, problems: Problems
) -> list[str] | None:
    """The values of a column as text, part after part; None for no column, or with a problem."""
    name = getattr(section, key)
    if name is None:
        return None
    found = [
        columns.texts(
            one.table.column(name),
            ("dataset", key),
            problems,
            names=columns.class_names(one.table.schema, name) if key == "label_column" else [],
            where=one.where,
        )
        for one in rows
    ]
    values = [value for part in found if part is not None for value in part]
    return None if any(part is None for part in found) else values


def _splits(rows: Sequence[_Rows], section: TableSection, problems: Problems) -> list[Split] | None:
    """The split of each row, by its column or else by the names of the parts."""
    if section.split_column is not None:
        words = _texts(rows, section, "split_column", problems)
        return None if words is None else columns.splits(words, _SPLIT, problems)
    if any(one.part.split is None for one in rows):
        return None
    return [
        one.part.split for one in rows if one.part.split is not None for _ in range(len(one.table))
    ]


def _row_names(rows: Sequence[_Rows]) -> list[str]:
    """What messages and tables call each row: its file and its number, counted from 0."""
    return [f"{one.part.shown}#{number}" for one in rows for number in range(len(one.table))]


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
