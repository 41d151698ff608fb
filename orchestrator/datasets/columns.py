"""Columns of a table -> labels, splits and groups as text, for all sources with columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.datasets.splits import SPLITS_ALLOWED, split_of
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.spec.refusals import KeyPath, did_you_mean

_FILL = ". Fill them in, or leave these rows out"


def check_columns(
    wanted: Sequence[tuple[str, str | None]],
    known: Sequence[str],
    problems: Problems,
    *,
    where: str,
) -> bool:
    """Return whether the table has every wanted column; add problems for missing ones.

    Args:
        wanted: key of `dataset:` and the column it names, or None for no column.
        known: columns of the table.
        problems: problems found are added here.
        where: name of the table, for messages.
    """
    before = len(problems)
    for key, column in wanted:
        if column is not None and column not in known:
            hint = did_you_mean(column, known)
            problems.add(
                ("dataset", key), f"no column {column!r} in {where}; columns: {some(known)}{hint}"
            )
        elif column is not None and list(known).count(column) > 1:
            problems.add(("dataset", key), f"{where} has several columns {column!r}")
    return len(problems) == before


def in_family(table: pa.Table) -> pa.Table:
    """Return the table with each column cast to the widest type of its family.

    Families are text and whole numbers. Writers store equal values in different types (`string`,
    `large_string`, `string_view`, dictionaries; `int32`, `int64`); after the cast, the tables of
    several files can be concatenated.

    Raises:
        pa.ArrowException: a whole number does not fit into a signed 64-bit integer.
    """
    columns = [column.cast(_family_of(column.type)) for column in table.columns]
    return pa.table(columns, schema=_schema_of(table, columns))


def _schema_of(table: pa.Table, columns: Sequence[pa.ChunkedArray]) -> pa.Schema:
    fields = [
        pa.field(name, one.type) for name, one in zip(table.column_names, columns, strict=True)
    ]
    return pa.schema(fields, metadata=table.schema.metadata)


def _family_of(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _family_of(kind.value_type)
    if _is_text(kind) or pa.types.is_null(kind):
        return pa.large_string()
    return pa.int64() if pa.types.is_integer(kind) else kind


def texts(
    column: pa.ChunkedArray,
    key: KeyPath,
    problems: Problems,
    *,
    names: Sequence[str] = (),
    where: str = "",
) -> list[str] | None:
    """Return the values as text without guessing: `no` and `01` stay, numbers are written out.

    Args:
        column: text, whole numbers, bools, or a dictionary of these.
        key: key path in the search-space file, for messages.
        problems: unsuitable types, null values and blank values are added here.
        names: names of the whole numbers 0, 1, ...; empty: the numbers themselves.
        where: name of the column's file, for messages; empty: no file is named.
    """
    of_file = f"{where}: " if where else ""
    column = _plain(column)
    kind = column.type
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        problems.add(key, f"{of_file}values of type {kind}; allowed: text, whole numbers or bools")
        return None
    nulls = column.is_null()
    if column.null_count:
        rows = [str(row) for row in pc.indices_nonzero(nulls).to_pylist()]
        problems.add(key, f"{of_file}rows without a value, counted from 0: {some(rows)}{_FILL}")
        return None
    values: list[Any] = column.to_pylist()
    if _is_text(kind):
        blank = [str(row) for row, value in enumerate(values) if not value.strip()]
        if blank:
            problems.add(
                key, f"{of_file}rows with a blank value, counted from 0: {some(blank)}{_FILL}"
            )
            return None
        return values
    if pa.types.is_boolean(kind):
        return ["true" if value else "false" for value in values]
    unnamed = sorted({value for value in values if names and not 0 <= value < len(names)})
    if unnamed:
        hint = "; rows without a label have to be left out" if unnamed[0] < 0 else ""
        problems.add(
            key,
            f"{of_file}got {some([str(value) for value in unnamed])}; the file's metadata name the "
            f"classes 0 to {len(names) - 1}{hint}",
        )
        return None
    return [names[value] if names else str(value) for value in values]


def are_numbers(column: pa.ChunkedArray) -> bool:
    """Return whether the values are whole numbers, whose class names only metadata can give."""
    return bool(pa.types.is_integer(_plain(column).type))


def splits(words: Sequence[str], key: KeyPath, problems: Problems) -> list[Split] | None:
    """Return the split of each row; add a problem if a word names no split."""
    known = {word: split_of(word) for word in set(words)}
    unknown = sorted(word for word, split in known.items() if split is None)
    if unknown:
        problems.add(key, f"got {some(unknown)}; allowed: {SPLITS_ALLOWED}")
        return None
    return [split for word in words if (split := known[word]) is not None]


def class_names(schema: pa.Schema, column: str) -> list[str]:
    """Return the names of classes 0, 1, ... in Hugging Face's metadata; an empty list if none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (TypeError, KeyError, ValueError):  # no metadata, no such metadata, no JSON
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values of a dictionary-encoded column, other columns as they are."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
