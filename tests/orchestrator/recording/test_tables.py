import datetime as dt
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import StorageError
from orchestrator.recording.column_descriptions import COLUMN_DESCRIPTIONS
from orchestrator.recording.table_schemas import KEYS, SCHEMA_VERSION, SCHEMAS
from orchestrator.recording.tables import read_table, write_table
from tests.builders.old_tables import ADDED_SINCE_0_1_0, make_old

NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC)

CONTRACT = {
    "trials": "sweep_id, trial_id, study, state, failure, attempt, method, backbone, weights, "
    "freeze_depth, boundary, frozen_boundaries, num_boundaries, prefix_params_fraction, "
    "prefix_flops_fraction, trainable_params, total_params, lr, label_budget, labels_used, "
    "num_classes, selection, objective, params, spec, folds, reports, steps, val_objective, "
    "val_accuracy, val_balanced_accuracy, val_loss, num_val, train_loss, duration_s, setup_s, "
    "features_s, train_s, peak_memory_bytes, device, host, started_at, finished_at, seed, "
    "schema_version",
    "curves": "sweep_id, trial_id, report, step, train_loss, val_loss, val_accuracy, "
    "val_objective, elapsed_s",
    "finals": "sweep_id, trial_id, repeat, label_budget, test_accuracy, test_balanced_accuracy, "
    "test_loss, test_ece, num_test, duration_s",
    "predictions": "sweep_id, trial_id, repeat, image_id, path, label, predicted, probability, "
    "label_probability",
    "leaderboard": "label_budget, study, rank, trial_id, method, backbone, freeze_depth, lr, "
    "params, val_objective, val_accuracy, num_val, test_accuracy, test_ci_low, test_ci_high, "
    "repeats, diff_to_best, diff_ci_low, diff_ci_high, tied_with_best, labels_used, duration_s",
}


def _filled(name: str, index: int) -> dict[str, Any]:
    """A row with a value in every column."""
    values: dict[pa.DataType, Any] = {
        pa.string(): f"é{index}",
        pa.int64(): index,
        pa.float64(): index / 3,
        SCHEMAS["predictions"].field("probabilities").type: [
            {"class": "a", "probability": index / 3},
            {"class": "é", "probability": 0.5},
        ],
        SCHEMAS["predictions"].field("pixels").type: [
            {"class": "é", "found": index, "labelled": index + 1, "predicted": index + 2}
        ],
        pa.binary(): f"{index}".encode(),
        pa.bool_(): index % 2 == 0,
        pa.timestamp("us", tz="UTC"): NOON + dt.timedelta(seconds=index),
    }
    return {field.name: values[field.type] for field in SCHEMAS[name]}


OF_TEXTS = ["max_length", "truncate", "prompt", "pooling"]
ADDED = {
    "trials": [
        "cache_hits",
        "cache_misses",
        "micro_batches",
        "image_size",
        "gain_over_start",
        "modality",
        "task",
        "val_score",
        "budget_unit",
        *OF_TEXTS,
    ],
    "predictions": ["probabilities", "pixels", "log_loss", "mask"],
    "finals": ["metric", "test_score", "lr_factor"],
    "leaderboard": [
        "image_size",
        "metric",
        "test_score",
        "gain_over_start",
        "head_init",
        "modality",
        "task",
        "val_score",
        "budget_unit",
        *OF_TEXTS,
        "collapsed",
    ],
}


@pytest.mark.parametrize("name", CONTRACT)
def test_columns_are_those_of_the_contract_in_order_and_then_those_added(name: str) -> None:
    assert SCHEMAS[name].names == CONTRACT[name].split(", ") + ADDED.get(name, [])
    assert set(SCHEMAS) == set(CONTRACT) == set(KEYS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_keys_alone_may_not_be_null(name: str) -> None:
    assert [f.name for f in SCHEMAS[name] if not f.nullable] == [
        column for column in SCHEMAS[name].names if column in KEYS[name]
    ]


def test_types_suit_the_unit_in_the_name() -> None:
    for schema in SCHEMAS.values():
        for field in schema:
            if field.name.endswith(("_s", "_fraction", "_accuracy", "_score", "label_budget")):
                assert field.type == pa.float64(), field
            if field.name.startswith("num_") or field.name.endswith(("_bytes", "_params")):
                assert field.type == pa.int64(), field
            if field.name.endswith("_at"):
                assert field.type == pa.timestamp("us", tz="UTC"), field


@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    rows = [_filled(name, index) for index in range(3)]
    path = write_table(tmp_path, name, rows)
    assert path == tmp_path / f"{name}.parquet"
    assert read_table(tmp_path, name).to_pylist() == rows
    assert read_table(tmp_path, name).schema == SCHEMAS[name]


@pytest.mark.parametrize("name", SCHEMAS)
def test_duckdb_polars_and_pandas_read_the_files_as_they_lie(tmp_path: Path, name: str) -> None:
    rows = [_filled(name, index) for index in range(3)]
    path = write_table(tmp_path, name, rows)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.read_parquet(str(path)).to_arrow_table()
    assert found.to_pylist() == rows
    assert pl.read_parquet(path).to_dicts() == rows
    assert [
        {
            column: list(value) if isinstance(value, np.ndarray) else value
            for column, value in row.items()
        }
        for row in pd.read_parquet(path).to_dict("records")
    ] == rows


def test_nulls_reach_duckdb_polars_and_pandas(tmp_path: Path) -> None:
    path = write_table(tmp_path, "trials", [{"sweep_id": "s", "trial_id": "b5-0001"}])
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT count(*), count(val_loss), count(host) FROM read_parquet(?)", [str(path)]
        ).fetchone()
    assert found == (1, 0, 0)
    assert pl.read_parquet(path)["val_loss"].to_list() == [None]
    assert pd.read_parquet(path)["host"].isna().all()


def test_folder_of_tables_is_read_while_a_write_was_cut_short(tmp_path: Path) -> None:
    write_table(tmp_path, "finals", [_filled("finals", 1)])
    (tmp_path / ".finals.parquet.tmp").write_bytes(b"PAR1 half a table")
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM read_parquet(?)", [str(tmp_path / "*.parquet")]
        ).fetchone()
    assert found == (1,)
    write_table(tmp_path, "finals", [_filled("finals", 2)])
    assert [file.name for file in tmp_path.iterdir()] == ["finals.parquet"]


def test_missing_keys_of_a_row_become_null(tmp_path: Path) -> None:
    write_table(tmp_path, "curves", [{"sweep_id": "s", "trial_id": "b5-0001", "report": 0}])
    (row,) = read_table(tmp_path, "curves").to_pylist()
    assert row["report"] == 0
    assert row["val_loss"] is None


def test_no_rows_make_a_table_with_all_columns(tmp_path: Path) -> None:
    write_table(tmp_path, "trials", [])
    assert read_table(tmp_path, "trials").schema == SCHEMAS["trials"]
    assert read_table(tmp_path, "trials").num_rows == 0


def test_arrow_table_is_written_with_its_columns_put_in_order(tmp_path: Path) -> None:
    table = pa.table(
        {
            "predicted": pa.array(["cat", "cat"]).dictionary_encode(),
            "image_id": ["a", "b"],
            "repeat": pa.array([0, 0], pa.int32()),
            "trial_id": ["t", "t"],
            "sweep_id": ["s", "s"],
        }
    )
    write_table(tmp_path, "predictions", table)
    read = read_table(tmp_path, "predictions")
    assert read.schema == SCHEMAS["predictions"]
    assert read["predicted"].to_pylist() == ["cat", "cat"]
    assert read["label"].null_count == 2


@pytest.mark.parametrize("as_table", [False, True])
def test_unknown_column_is_refused(tmp_path: Path, as_table: bool) -> None:
    row = _filled("finals", 1) | {"test_acuracy": 1.0}
    with pytest.raises(
        ValueError, match="finals: unknown columns test_acuracy; known columns: swe"
    ):
        write_table(tmp_path, "finals", pa.Table.from_pylist([row]) if as_table else [row])
    assert not list(tmp_path.iterdir())


def test_missing_key_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"finals.repeat: 1 null or missing keys"):
        write_table(tmp_path, "finals", [{"sweep_id": "s", "trial_id": "t"}])


@pytest.mark.parametrize(("column", "value"), [("num_test", "many"), ("num_test", 2**70)])
def test_value_of_another_type_is_refused(tmp_path: Path, column: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"finals.num_test: .*int"):
        write_table(tmp_path, "finals", [_filled("finals", 1) | {column: value}])


def test_missing_file_is_an_empty_table(tmp_path: Path) -> None:
    assert read_table(tmp_path / "nowhere", "leaderboard").equals(
        SCHEMAS["leaderboard"].empty_table()
    )


def test_columns_that_a_later_version_added_are_dropped(tmp_path: Path) -> None:
    rows = [_filled("trials", 1) | {"schema_version": SCHEMA_VERSION + 1}]
    table = pa.Table.from_pylist(rows, SCHEMAS["trials"])
    table = table.append_column("invented_later", pa.array([1]))
    metadata = {"schema_version": str(SCHEMA_VERSION + 1)}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "trials.parquet")
    assert read_table(tmp_path, "trials").to_pylist() == rows


@pytest.mark.parametrize("name", ["trials", "finals", "leaderboard"])
def test_columns_added_since_0_1_0_are_null_in_a_file_that_names_no_version(
    tmp_path: Path, name: str
) -> None:
    row = _filled(name, 1)
    write_table(tmp_path, name, [row])
    make_old(tmp_path, name)
    assert read_table(tmp_path, name).to_pylist() == [row | dict.fromkeys(ADDED_SINCE_0_1_0[name])]


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_that_lacks_a_column_of_its_version_is_refused(
    tmp_path: Path, name: str, versioned: bool
) -> None:
    column = SCHEMAS[name].names[-1] if versioned else CONTRACT[name].split(", ")[-1]
    path = write_table(tmp_path, name, [_filled(name, 1)])
    table = pq.read_table(path).drop_columns([column])
    pq.write_table(table if versioned else table.replace_schema_metadata(), path)
    version = SCHEMA_VERSION if versioned else 0
    with pytest.raises(
        StorageError, match=f"{name}.parquet: .*schema version {version} .*missing here: {column}"
    ):
        read_table(tmp_path, name)
    with pytest.raises(StorageError, match=f"missing here: {column}"):  # whatever is asked for
        read_table(tmp_path, name, columns=SCHEMAS[name].names[:2])


def test_a_version_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path, "finals", [_filled("finals", 1)])
    table = pq.read_table(path).replace_schema_metadata({"schema_version": "one"})
    pq.write_table(table, path)
    with pytest.raises(StorageError, match=r"finals\.parquet: this is not a whole table of finals"):
        read_table(tmp_path, "finals")


def test_file_of_another_kind_is_named_as_such(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "trials.parquet")
    with pytest.raises(StorageError, match=r"trials\.parquet: this is not a whole table of trials"):
        read_table(tmp_path, "trials")


def test_empty_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").touch()
    with pytest.raises(StorageError, match=r"trials\.parquet: the file is empty \(0 bytes\)"):
        read_table(tmp_path, "trials")


def test_file_cut_at_any_length_is_never_read_as_fewer_rows(tmp_path: Path) -> None:
    path = write_table(tmp_path, "finals", [_filled("finals", index) for index in range(50)])
    content = path.read_bytes()
    for length in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        with pytest.raises(StorageError, match="the file is torn or damaged"):
            read_table(tmp_path, "finals")


def test_any_changed_bit_is_told_or_changes_no_row(tmp_path: Path) -> None:
    rows = [_filled("finals", index) for index in range(5)]
    path = write_table(tmp_path, "finals", rows)
    content = path.read_bytes()
    told = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            found = read_table(tmp_path, "finals").to_pylist()
        except StorageError:
            told += 1
        else:
            assert found == rows, position
    assert told > len(content) / 2


def test_a_changed_byte_within_a_page_is_told(tmp_path: Path) -> None:
    path = write_table(tmp_path, "finals", [_filled("finals", index) for index in range(5)])
    content = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    for column in range(group.num_columns):
        chunk = group.column(column)
        changed = bytearray(content)
        changed[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(StorageError, match=r"finals\.parquet: the file is torn or damaged"):
            read_table(tmp_path, "finals")


def test_pages_have_checksums_for_other_readers(tmp_path: Path) -> None:
    path = write_table(tmp_path, "finals", [_filled("finals", index) for index in range(5)])
    content = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(5)  # test_accuracy
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="could not verify page integrity, CRC checksum"):
        pq.read_table(path, page_checksum_verification=True)


def test_file_that_cannot_be_opened_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").mkdir()
    with pytest.raises(StorageError, match=r"trials\.parquet: cannot be read .*permissions"):
        read_table(tmp_path, "trials")


def _out_of_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _half_written(_: pa.Table, sink: BinaryIO, **__: object) -> None:
    sink.write(b"PAR1 half")
    _out_of_space()


def _unreadable_footer(*_: object) -> None:
    raise pa.ArrowInvalid("Parquet magic bytes not found")


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("orchestrator.recording.tables.pq.write_table", _half_written),
        ("trainable.atomic_files.os.fsync", _out_of_space),
        ("orchestrator.recording.tables.pq.read_metadata", _unreadable_footer),
        ("pathlib.Path.replace", _out_of_space),
    ],
)
def test_failed_write_leaves_the_old_table_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: Callable[..., None]
) -> None:
    old = [_filled("finals", 1)]
    write_table(tmp_path, "finals", old)
    with monkeypatch.context() as patch:
        patch.setattr(step, fault)
        with pytest.raises(
            StorageError, match=r"finals\.parquet: not written .*Make room"
        ) as caught:
            write_table(tmp_path, "finals", [_filled("finals", 2)])
    assert caught.value.exit_code == 4
    assert [file.name for file in tmp_path.iterdir()] == ["finals.parquet"]
    assert read_table(tmp_path, "finals").to_pylist() == old


def test_interrupted_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.recording.tables.pq.write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path, "finals", [])
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone.finals\.parquet: not written .*No such file"):
        write_table(tmp_path / "gone", "finals", [])


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_and_each_of_its_columns_says_what_it_means(name: str, tmp_path: Path) -> None:
    write_table(tmp_path, name, [_filled(name, 0)])
    written = pq.read_schema(tmp_path / f"{name}.parquet")
    assert written.metadata[b"description"]
    assert all(field.metadata[b"description"] for field in written)


def test_columns_of_times_sizes_and_shares_name_their_unit() -> None:
    units = {
        field.name: field.metadata.get(b"unit", b"").decode()
        for schema in SCHEMAS.values()
        for field in schema
    }
    suffixes = {"_s": "s", "_bytes": "bytes", "_fraction": "share, 0 to 1", "_at": "UTC"}
    checked = [
        (column, unit, suffixes[suffix])
        for column, unit in units.items()
        for suffix in suffixes
        if column.endswith(suffix)
    ]
    assert len(checked) > 8
    assert all(unit == expected for _, unit, expected in checked), checked


def test_no_description_is_of_a_column_that_does_not_exist() -> None:
    described = {column for columns in COLUMN_DESCRIPTIONS.values() for column in columns}
    assert described == {column for schema in SCHEMAS.values() for column in schema.names}
