"""The tables of a sweep: their schemas, and how they are written and read as whole Parquet files.

A table on disk is always complete: a reader sees the old file or the new one, never a part. What
the disk makes of it later is noticed by checksums: of the pages, for every reader, and of the whole
file, for this one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import StorageError
from orchestrator.recording.column_descriptions import COLUMN_DESCRIPTIONS, TABLE_DESCRIPTIONS
from orchestrator.recording.sealing import is_broken, sealed
from trainable.atomic_files import atomic_write

SCHEMA_VERSION = 1
"""Of the columns below; columns are only ever added, so that older files stay readable."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "trials": ("sweep_id", "trial_id"),
    "curves": ("sweep_id", "trial_id", "report"),
    "finals": ("sweep_id", "trial_id", "repeat"),
    "predictions": ("sweep_id", "trial_id", "repeat", "image_id"),
    "leaderboard": ("study", "trial_id"),
}
"""The columns that identify a row of each table; they are never null."""

_TEXT, _COUNT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")

_COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "trials": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "study": _TEXT,
        "state": _TEXT,
        "failure": _TEXT,
        "attempt": _COUNT,
        "method": _TEXT,
        "backbone": _TEXT,
        "weights": _TEXT,
        "freeze_depth": _REAL,
        "boundary": _TEXT,
        "frozen_boundaries": _COUNT,
        "num_boundaries": _COUNT,
        "prefix_params_fraction": _REAL,
        "prefix_flops_fraction": _REAL,
        "trainable_params": _COUNT,
        "total_params": _COUNT,
        "lr": _REAL,
        "label_budget": _REAL,
        "labels_used": _COUNT,
        "num_classes": _COUNT,
        "selection": _TEXT,
        "objective": _TEXT,
        "params": _TEXT,
        "spec": _TEXT,
        "folds": _COUNT,
        "reports": _COUNT,
        "steps": _COUNT,
        "val_objective": _REAL,
        "val_accuracy": _REAL,
        "val_balanced_accuracy": _REAL,
        "val_loss": _REAL,
        "num_val": _COUNT,
        "train_loss": _REAL,
        "duration_s": _REAL,
        "setup_s": _REAL,
        "features_s": _REAL,
        "train_s": _REAL,
        "peak_memory_bytes": _COUNT,
        "device": _TEXT,
        "host": _TEXT,
        "started_at": _TIME,
        "finished_at": _TIME,
        "seed": _COUNT,
        "schema_version": _COUNT,
        "cache_hits": _COUNT,
        "cache_misses": _COUNT,
        "micro_batches": _COUNT,
        "image_size": _COUNT,
        "gain_over_start": _REAL,
    },
    "curves": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "report": _COUNT,
        "step": _COUNT,
        "train_loss": _REAL,
        "val_loss": _REAL,
        "val_accuracy": _REAL,
        "val_objective": _REAL,
        "elapsed_s": _REAL,
    },
    "finals": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "repeat": _COUNT,
        "label_budget": _REAL,
        "test_accuracy": _REAL,
        "test_balanced_accuracy": _REAL,
        "test_loss": _REAL,
        "test_ece": _REAL,
        "num_test": _COUNT,
        "duration_s": _REAL,
        "metric": _TEXT,
        "test_score": _REAL,
    },
    "predictions": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "repeat": _COUNT,
        "image_id": _TEXT,
        "path": _TEXT,
        "label": _TEXT,
        "predicted": _TEXT,
        "probability": _REAL,
        "label_probability": _REAL,
    },
    "leaderboard": {
        "label_budget": _REAL,
        "study": _TEXT,
        "rank": _COUNT,
        "trial_id": _TEXT,
        "method": _TEXT,
        "backbone": _TEXT,
        "freeze_depth": _REAL,
        "lr": _REAL,
        "params": _TEXT,
        "val_objective": _REAL,
        "val_accuracy": _REAL,
        "num_val": _COUNT,
        "test_accuracy": _REAL,
        "test_ci_low": _REAL,
        "test_ci_high": _REAL,
        "repeats": _COUNT,
        "diff_to_best": _REAL,
        "diff_ci_low": _REAL,
        "diff_ci_high": _REAL,
        "tied_with_best": _FLAG,
        "labels_used": _COUNT,
        "duration_s": _REAL,
        "image_size": _COUNT,
        "metric": _TEXT,
        "test_score": _REAL,
        "gain_over_start": _REAL,
        "head_init": _TEXT,
    },
}

SCHEMAS: Mapping[str, pa.Schema] = {
    name: pa.schema(
        [
            pa.field(
                column,
                kind,
                nullable=column not in KEYS[name],
                metadata=COLUMN_DESCRIPTIONS[name][column].to_metadata(),
            )
            for column, kind in kinds.items()
        ],
        metadata={"description": TABLE_DESCRIPTIONS[name]},
    )
    for name, kinds in _COLUMNS.items()
}
"""The columns of each table in their order; the metadata of each says what it means."""


def table_path(directory: Path, name: str) -> Path:
    """Where a table of a sweep lies."""
    return directory / f"{name}.parquet"


def write_table(directory: Path, name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> Path:
    """Replaces one table of a sweep as a whole and returns its path.

    The file is written beside its place under a dot-prefixed name, synced, checked and renamed, so
    that whatever fails leaves the old table as it was and nothing beside it.

    Args:
        directory: of the sweep; it has to exist.
        name: a key of `SCHEMAS`.
        rows: mappings from column to value, or a table with some of the columns in any order and
            of types that cast without loss. Columns left out become null.

    Raises:
        ValueError: an unknown column, a null or missing key, or a value of another type.
        StorageError: the disk is full, the folder is missing, or it may not be written.
    """
    table = conform(name, rows)
    path = table_path(directory, name)

    def check(written: Path) -> None:
        if pq.read_metadata(written).num_rows != table.num_rows:
            raise pa.ArrowInvalid("the rows written are not the rows read back")

    try:
        with atomic_write(path, check=check) as sink:
            content = io.BytesIO()
            pq.write_table(table, content, compression="zstd", write_page_checksum=True)
            sink.write(sealed(content.getvalue()))
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{path}: not written ({error}); the table as it was before is untouched. "
            "Make room there or give this user the right to write, then resume the sweep"
        ) from error
    return path


def read_table(directory: Path, name: str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """One table of a sweep in the columns of `SCHEMAS[name]`; no rows where there is no file.

    Files of other schema versions are read too: columns that the file lacks are null, columns
    unknown here are left out.

    Args:
        directory: of the sweep.
        name: a key of `SCHEMAS`.
        columns: to be read, of those of the schema; left out, all of them.

    Raises:
        StorageError: the file cannot be opened, is torn or empty, or holds something else.
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
        if is_broken(content):
            raise pa.ArrowInvalid("its checksum is not that of its content")
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        found = set(file.schema_arrow.names)
        table = file.read(columns=[column for column in schema.names if column in found])
    except (OSError, pa.ArrowException) as error:
        state = "empty (0 bytes)" if not content else f"torn or damaged ({error})"
        raise StorageError(f"{path}: the file is {state}") from error
    try:
        return _fill(table, name, schema)
    except ValueError as error:
        raise StorageError(f"{path}: this is not a table of {name}: {error}") from error


def conform(name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """`rows` as a table of exactly `SCHEMAS[name]`; see `write_table`.

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
    # Row by row first: looking up column by column takes twice as long.
    columns = zip(*[tuple(map(row.get, schema.names)) for row in rows], strict=True)
    arrays = [_column(name, field, values) for field, values in zip(schema, columns, strict=True)]
    return _fill(pa.table(arrays, schema.names), name, schema)


def _column(name: str, field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """`values` as the column of one field."""
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"{name}.{field.name}: {error}") from error


def _fill(table: pa.Table, name: str, schema: pa.Schema) -> pa.Table:
    """`table` cast to `schema`, with nulls for the columns that it lacks."""
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
