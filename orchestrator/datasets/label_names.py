"""Class ids in a table whose names stand in a column beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from orchestrator.datasets.columns import in_family
from orchestrator.datasets.listing import Note
from orchestrator.datasets.sections import TableSection
from orchestrator.datasets.table_file import TableFile, open_table
from trainable.spec.refusals import shown


def note_names_beside(path: Path, section: TableSection, class_names: Sequence[str]) -> list[Note]:
    """A note where classes are whole numbers, and another column has one name for each of them.

    Args:
        path: of the table, or of the first file of it.
        section: which columns are used.
        class_names: the classes.
    """
    if not all(name.isdecimal() for name in class_names):
        return []
    ids = section.label_column
    table = open_table(path, wanted=[ids], encoding=section.encoding)
    used = (ids, section.split_column, section.group, getattr(section, section.content_key))
    for name in table.names:
        if name not in used and _are_names(_pairs(table, ids, name)):
            told = f"classes are the numbers of column {shown(ids)}; column {shown(name)} has one"
            return [Note(f"{told} name for each: for names say dataset.label_column: {name}")]
    return []


def _pairs(table: TableFile, ids: str, name: str) -> set[tuple[object, object]]:
    """The distinct pairs of values of two columns; none where the second is not one of text."""
    try:
        read = in_family(table.read([ids, name]))
    except (pa.ArrowException, ValueError):  # of several types, or one of two columns of a name
        return set()
    if not pa.types.is_large_string(read.schema.field(name).type):
        return set()
    return set(zip(read.column(ids).to_pylist(), read.column(name).to_pylist(), strict=True))


def _are_names(pairs: set[tuple[object, object]]) -> bool:
    """Whether each id has one name, each name one id, and no name is a number."""
    ids, names = {one for one, _ in pairs}, {name for _, name in pairs}
    return (
        len(pairs) > 1
        and len(ids) == len(names) == len(pairs)
        and not any(str(name).strip().isdecimal() for name in names)
    )
