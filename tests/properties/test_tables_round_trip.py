"""Whatever fits the schema comes back from disk as it went in."""

import datetime as dt
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.recording.table_schemas import KEYS, SCHEMAS
from orchestrator.recording.tables import read_table, write_table

VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=8),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    SCHEMAS["predictions"].field("probabilities").type: st.lists(
        st.fixed_dictionaries({"class": st.text(max_size=3), "probability": st.floats(0, 1)}),
        max_size=3,
    ),
    SCHEMAS["predictions"].field("pixels").type: st.lists(
        st.fixed_dictionaries(
            {"class": st.text(max_size=3)}
            | dict.fromkeys(("found", "labelled", "predicted"), st.integers(0, 2**63 - 1))
        ),
        max_size=3,
    ),
    pa.bool_(): st.booleans(),
    pa.binary(): st.binary(max_size=8),
    pa.timestamp("us", tz="UTC"): st.datetimes(
        dt.datetime(1970, 1, 1), dt.datetime(2262, 1, 1), timezones=st.just(dt.UTC)
    ),
}


def _rows(name: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    required = {f.name: VALUES[f.type] for f in SCHEMAS[name] if f.name in KEYS[name]}
    optional = {
        f.name: st.none() | VALUES[f.type] for f in SCHEMAS[name] if f.name not in KEYS[name]
    }
    return st.lists(st.fixed_dictionaries(required, optional=optional), max_size=4)


@pytest.mark.parametrize("name", SCHEMAS)
@settings(deadline=None, max_examples=25)  # every example waits for the disk, twice
@given(data=st.data())
def test_tables_round_trip(name: str, data: st.DataObject) -> None:
    rows = data.draw(_rows(name))
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder), name, rows)
        read = read_table(Path(folder), name)
        assert read.schema == SCHEMAS[name]
        assert read.to_pylist() == [
            {column: row.get(column) for column in SCHEMAS[name].names} for row in rows
        ]
        write_table(Path(folder), name, read)
        assert read_table(Path(folder), name).equals(read)


def test_not_a_number_stays_apart_from_unknown(tmp_path: Path) -> None:
    key = {"sweep_id": "s", "trial_id": "b5-0001"}
    write_table(tmp_path, "trials", [key | {"val_loss": math.nan}, key | {"val_loss": None}])
    diverged, unknown = read_table(tmp_path, "trials")["val_loss"].to_pylist()
    assert math.isnan(diverged)
    assert unknown is None
