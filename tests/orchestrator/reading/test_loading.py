from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import orchestrator
from orchestrator.errors import StorageError, UsageError
from orchestrator.reading.loading import load_run, load_runs
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import write_table
from tests.builders.old_tables import make_old
from tests.builders.programs import printed_by
from tests.builders.written_sweeps import digits_sweep, loaded


def test_a_run_has_its_tables_as_they_were_written(tmp_path: Path) -> None:
    run = orchestrator.load_run(str(digits_sweep(tmp_path / "one")))
    assert (run.path, run.sweep_id) == (tmp_path / "one", "one")
    assert run.manifest["created_at"] == "2026-01-31"
    sizes = {name: run.table(name).num_rows for name in SCHEMAS}
    assert sizes == {
        "trials": 8,
        "curves": 16,
        "finals": 12,
        "predictions": 120,
        "leaderboard": 8,
    }
    assert run.trials.schema == SCHEMAS["trials"]
    assert run.leaderboard["trial_id"][0].as_py() == "b2-0001"


def test_a_table_is_read_once_and_not_before_it_is_asked_for(tmp_path: Path) -> None:
    run = loaded(tmp_path / "one")
    (run.path / "curves.parquet").write_bytes(b"torn")
    first = run.trials
    (run.path / "trials.parquet").unlink()
    assert run.trials is first
    with pytest.raises(StorageError, match="torn or damaged"):
        _ = run.curves


def test_what_is_missing_has_no_rows(tmp_path: Path) -> None:
    run = loaded(tmp_path / "one")
    for name in SCHEMAS:
        (run.path / f"{name}.parquet").unlink()
    for name, schema in SCHEMAS.items():
        assert run.table(name).schema == schema
        assert run.table(name).num_rows == 0


def test_columns_that_an_older_version_did_not_write_are_null(tmp_path: Path) -> None:
    run = loaded(tmp_path / "one")
    make_old(run.path, "trials")
    assert run.trials.num_rows == 8
    assert run.trials["image_size"].null_count == 8
    assert run.trials["study"].null_count == 0


def test_a_leaderboard_that_ranked_no_probes_is_built_again_from_the_other_tables(
    tmp_path: Path,
) -> None:
    run = loaded(tmp_path / "one")
    expected = run.leaderboard.to_pylist()
    assert [row["rank"] for row in expected if row["method"] == "probe"] == [2]
    old = [row | ({"rank": None} if row["method"] == "probe" else {}) for row in expected]
    write_table(run.path, "leaderboard", old)
    make_old(run.path, "trials", "finals", "leaderboard")
    again = load_run(run.path)
    assert again.leaderboard.to_pylist() == expected
    assert again.read("leaderboard", columns=["rank"]).num_rows == len(expected)

    (run.path / "trials.parquet").unlink()
    alone = load_run(run.path).leaderboard
    accuracies = [row["test_accuracy"] for row in expected]
    assert alone["test_accuracy"].to_pylist() == accuracies
    assert alone["test_score"].to_pylist() == accuracies
    assert set(alone["metric"].to_pylist()) == {"accuracy"}


def test_pandas_keeps_whole_numbers_whole_beside_missing_ones(tmp_path: Path) -> None:
    frame = loaded(tmp_path / "one").to_pandas("leaderboard")
    assert list(frame["rank"][:3]) == [1, 2, 3]
    assert frame["rank"].dtype == pd.Int64Dtype()
    assert frame["rank"].isna().sum() == 1  # raw pixels
    assert frame["tied_with_best"].dtype == pd.BooleanDtype()
    assert frame["test_accuracy"].dtype == float


def test_an_unknown_table_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    run = loaded(tmp_path / "one")
    with pytest.raises(UsageError, match=r"trial: no such table; allowed: trials, curves, "):
        run.table("trial")
    with pytest.raises(UsageError, match="manifest: no such table"):
        run.to_pandas("manifest")


def test_without_a_path_the_newest_sweep_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no sweep here; start one with"):
        load_run()
    digits_sweep(tmp_path / "runs" / "one")
    assert load_run().sweep_id == "one"


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest.json is missing"):
        load_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="sweep_id is missing"):
        load_run(tmp_path)


def test_a_run_that_is_named_twice_is_loaded_once(tmp_path: Path) -> None:
    one, two = digits_sweep(tmp_path / "one"), digits_sweep(tmp_path / "two")
    runs = load_runs([one, two, two / ".." / "one"])
    assert [run.sweep_id for run in runs] == ["one", "two"]


def test_a_copy_of_a_run_is_refused_beside_it(tmp_path: Path) -> None:
    one, copy = digits_sweep(tmp_path / "one"), digits_sweep(tmp_path / "copy")
    (copy / "manifest.json").write_text(json.dumps({"sweep_id": "one"}))
    with pytest.raises(UsageError, match=r"copy: the same sweep as .*one, one; give one of them"):
        load_runs([one, copy])


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, orchestrator; heavy = {'pyarrow', 'pandas', 'torch', 'ray', 'numpy'};"
        "before = sorted(heavy & set(sys.modules)); orchestrator.load_run;"
        "print(before, 'pyarrow' in sys.modules)"
    )
    assert printed_by(code, timeout_s=60) == "[] True"


def test_the_package_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_runs_all'"):
        _ = orchestrator.load_runs_all


def test_tables_are_arrow(tmp_path: Path) -> None:
    assert isinstance(loaded(tmp_path / "one").finals, pa.Table)
