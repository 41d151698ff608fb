"""Write and read the tables of a sweep as whole Parquet files.

A table on disk is always complete: a reader sees the old file or the new one, never a part. Later
damage is detected by Parquet's page checksums, and by the columns that the file's version requires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import StorageError
from orchestrator.recording.table_schemas import SCHEMAS, SINCE, VERSION_KEY
from trainable.atomic_files import atomic_write


def table_path(directory: Path, name: str) -> Path:
    """Return the path of a table of a sweep."""
    return directory / f"{name}.parquet"


def write_table(directory: Path, name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> Path:
    """Replace one table of a sweep as a whole and return its path.

    The file is written to the same folder under a dot-prefixed name, synced, checked and renamed.
    A failure leaves the old table unchanged and no other file behind.

    Args:
        directory: existing directory of the sweep.
        name: a key of `SCHEMAS`.
        rows: mappings from column to value, or a table with some of the columns in any order and
            of types that cast without loss. Columns left out become null.

    Raises:
        ValueError: an unknown column, a null or missing key, or a value of another type.
        StorageError: the disk is full, or the folder is missing or not writable.
    """
    table = conform(name, rows)
    path = table_path(directory, name)

    def check(written: Path) -> None:
        if pq.read_metadata(written).num_rows != table.num_rows:
            raise pa.ArrowInvalid("the rows written are not the rows read back")

    try:
        with atomic_write(path, check=check) as sink:
            pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{path}: not written ({error}); the table as it was before is untouched. "
            "Make room there or give this user the right to write, then resume the sweep"
        ) from error
    return path


def read_table(directory: Path, name: str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one table of a sweep with the columns of `SCHEMAS[name]`; without a file it is empty.

    Files of other schema versions are read too: columns that came after the file's version are
    null, columns unknown here are left out.

    Args:
        directory: directory of the sweep.
        name: a key of `SCHEMAS`.
        columns: columns of the schema to read; None for all of them.

    Raises:
        StorageError: the file cannot be opened, is truncated, damaged or empty, lacks a column of
            its schema version, or is not such a table.
    """
    schema = SCHEMAS[name]
    if columns is not None:
        schema = pa.schema([schema.field(column) for column in columns])
    path = table_path(directory, name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return schema.empty_table()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error}); check the permissions") from error
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        found = set(file.schema_arrow.names)
        table = file.read(columns=[column for column in schema.names if column in found])
        if table.num_rows != file.metadata.num_rows:
            raise pa.ArrowInvalid("its numbers of rows do not agree")
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        state = "empty (0 bytes)" if not content else f"torn or damaged ({error})"
        raise StorageError(f"{path}: the file is {state}") from error
    try:
        _check_columns(file.schema_arrow, name)
        return _fill(table, name, schema)
    except ValueError as error:
        raise StorageError(f"{path}: this is not a whole table of {name}: {error}") from error


def conform(name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Return `rows` as a table of exactly `SCHEMAS[name]`; see `write_table`.

    Raises:
        ValueError: an unknown column, a null or missing key, or a value of another type.
    """
    schema = SCHEMAS[name]
    if isinstance(rows, pa.Table):
        unknown = set(rows.column_names).difference(schema.names)
    else:
        unknown = set().union(*rows).difference(schema.names)
    if unknown:
        raise ValueError(
            f"{name}: unknown columns {', '.join(sorted(unknown))}; "
            f"known columns: {', '.join(schema.names)}"
        )
    if isinstance(rows, pa.Table):
        return _fill(rows, name, schema)
    if not rows:
        return schema.empty_table()
    # Rows are unpacked first: looking up column by column takes twice as long.
    columns = zip(*[tuple(map(row.get, schema.names)) for row in rows], strict=True)
    arrays = [_column(name, field, values) for field, values in zip(schema, columns, strict=True)]
    return _fill(pa.table(arrays, schema.names), name, schema)


def _check_columns(found: pa.Schema, name: str) -> None:
    """Check that a file has the columns of its version.

    Raises:
        ValueError: a column is missing, or the version is not a number.
    """
    version = int((found.metadata or {}).get(VERSION_KEY, 0))
    since = SINCE.get(name, {})
    missing = [
        column
        for column in SCHEMAS[name].names
        if since.get(column, 0) <= version and column not in found.names
    ]
    if missing:
        raise ValueError(
            f"schema version {version} has columns that are missing here: {', '.join(missing)}"
        )


def _column(name: str, field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Return `values` as the column of one field."""
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"{name}.{field.name}: {error}") from error


def _fill(table: pa.Table, name: str, schema: pa.Schema) -> pa.Table:
    """Return `table` cast to `schema`, with nulls for the columns that it lacks."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            column = pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        else:
            column = table[field.name]
            try:
                column = column.cast(field.type)
            except pa.ArrowException as error:
                raise ValueError(f"{name}.{field.name}: {error}") from error
        if not field.nullable and column.null_count:
            raise ValueError(f"{name}.{field.name}: {column.null_count} null or missing keys")
        columns.append(column)
    return pa.table(columns, schema=schema)
