"""Directories that version 0.1.0 wrote: they are still read, reported and exported."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import shufflenet_v2_x0_5

from orchestrator.cli.main import run
from orchestrator.recording.projection import rebuild
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import KEYS
from orchestrator.recording.tables import read_table
from orchestrator.running import resume_checks
from orchestrator.text import percent
from trainable.export import written_model

SWEEPS = Path(__file__).parents[2] / "fixtures" / "sweeps-0.1.0"
NAMES = ("finished", "killed", "by_path")
RECORDED = ("trials", "curves", "finals", "predictions")
"""Tables that hold what was recorded; the leaderboard is worked out from them."""

MEASURED = ("val_objective", "test_accuracy", "test_ci_low", "test_ci_high")
"""Columns of the leaderboard that no rule of ranking enters."""

Sweep = Callable[[str], Path]
Row = dict[str, Any]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Copies a directory of 0.1.0."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(SWEEPS / name, tmp_path / name))

    return copied


def committed(name: str, table: str) -> list[Row]:
    """The rows that 0.1.0 wrote, without this version's reader."""
    rows: list[Row] = pq.read_table(SWEEPS / name / f"{table}.parquet").to_pylist()
    return rows


def rows_by_key(table: str, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    return {tuple(row[column] for column in KEYS[table]): row for row in rows}


def as_written(rows: list[Row], like: list[Row]) -> list[Row]:
    """Rows in the columns that 0.1.0 knew, and of its version."""
    version = {key: like[0][key] for key in ("schema_version",) if key in like[0]}
    return [{column: row[column] for column in like[0]} | version for row in rows]


def test_there_is_a_directory_of_every_kind() -> None:
    assert {path.name for path in SWEEPS.iterdir() if path.is_dir()} == {*NAMES}
    for name in NAMES:
        manifest = json.loads((SWEEPS / name / "manifest.json").read_text())
        assert (manifest["tool_version"], manifest["hosts"]) == ("0.1.0", ["host"])
    assert [path.name for path in (SWEEPS / "killed" / "checkpoints").iterdir()] == [
        "b5-0001.checkpoint"
    ]


@pytest.mark.parametrize("name", ["finished", "by_path"])
@pytest.mark.parametrize("table", RECORDED)
def test_tables_made_again_from_the_journal_are_those_it_wrote(
    name: str, table: str, sweep: Sweep
) -> None:
    path = sweep(name)
    rebuild(path, Run(path).sweep_id)
    expected = committed(name, table)
    assert as_written(read_table(path, table).to_pylist(), expected) == expected


@pytest.mark.parametrize("table", RECORDED)
def test_tables_of_a_killed_sweep_are_a_part_of_those_made_again(table: str, sweep: Sweep) -> None:
    path = sweep("killed")
    rebuild(path, Run(path).sweep_id)
    expected = committed("killed", table)
    again = as_written(read_table(path, table).to_pylist(), expected)
    found, known = rows_by_key(table, again), rows_by_key(table, expected)
    assert {key: found.get(key) for key in known} == known
    if table == "trials":
        assert {row["trial_id"] for row in again} - {row["trial_id"] for row in expected} == {
            "b5-0000"
        }


@pytest.mark.parametrize("name", ["finished", "by_path"])
def test_what_training_gained_is_unknown_as_no_start_was_reported(name: str, sweep: Sweep) -> None:
    path = sweep(name)
    for again in (False, True):
        if again:
            rebuild(path, Run(path).sweep_id)
        for table in ("trials", "leaderboard"):
            gains = read_table(path, table)["gain_over_start"]
            assert len(gains) == gains.null_count > 0


@pytest.mark.parametrize("name", ["finished", "by_path"])
def test_a_leaderboard_made_again_has_the_scores_that_it_wrote(name: str, sweep: Sweep) -> None:
    path = sweep(name)
    rebuild(path, Run(path).sweep_id)
    found = rows_by_key("leaderboard", read_table(path, "leaderboard").to_pylist())
    expected = rows_by_key("leaderboard", committed(name, "leaderboard"))
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for column in MEASURED:
            assert found[key][column] == pytest.approx(row[column], abs=1e-12), (key, column)


@pytest.mark.parametrize("name", NAMES)
def test_leaderboard_tells_what_the_table_holds(
    name: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(sweep(name))
    assert run(["leaderboard", path, "--top", "99", "--json"]) == 0
    rows, expected = json.loads(capsys.readouterr().out), committed(name, "leaderboard")
    found = rows_by_key("leaderboard", rows)
    assert found.keys() == rows_by_key("leaderboard", expected).keys()
    for key, row in rows_by_key("leaderboard", expected).items():
        for column in MEASURED:  # ranks and differences follow the rules of today
            assert found[key][column] == pytest.approx(row[column], abs=1e-12), (key, column)
    assert run(["leaderboard", path]) == 0
    shown = capsys.readouterr().out
    for row in expected:
        if row["test_accuracy"] is not None:
            assert percent(row["test_accuracy"]) in shown


@pytest.mark.parametrize(
    ("name", "state", "settled"),
    [
        ("finished", "finished", [4, 4]),
        ("killed", "unfinished", [4, 1]),
        ("by_path", "finished", [2]),
    ],
)
def test_status_tells_how_far_it_came(
    name: str, state: str, settled: list[int], sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", str(sweep(name)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == state
    told = [study["complete"] + study["pruned"] + study["failed"] for study in found["studies"]]
    assert told == settled
    assert found["failures"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_query_reads_every_table(
    name: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep(name)
    for table in (*RECORDED, "leaderboard"):
        assert run(["query", f"SELECT count(*) AS n FROM {table}", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [{"n": len(committed(name, table))}]


@pytest.mark.parametrize("name", NAMES)
def test_report_shows_every_test_score(name: str, sweep: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert run(["report", str(sweep(name)), "-o", str(out)]) == 0
    page = re.sub(r"<[^>]*>", " ", out.read_text(encoding="utf-8"))
    for row in committed(name, "leaderboard"):
        if row["test_accuracy"] is not None:
            assert percent(row["test_accuracy"]) in page


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Exports without the portable files, which take long; what the command says of it."""
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])

    def exported(path: Path, *options: str) -> dict[str, Any]:
        out = tmp_path / "model"
        assert run(["export", str(path), *options, "-o", str(out)]) == 0
        card = (out / "README.md").read_text(encoding="utf-8")
        return {"card": card, "about": json.loads((out / "model.json").read_text())}

    return exported


@pytest.mark.parametrize("trial", ["b5-0003", "b5-probe-tiny_strokes"])
def test_export_trains_what_was_measured(
    trial: str, sweep: Sweep, export: Callable[..., dict[str, Any]]
) -> None:
    (row,) = (row for row in committed("finished", "leaderboard") if row["trial_id"] == trial)
    done = export(sweep("finished"), "--trial", trial, "--labels", "budget")
    assert done["about"]["backbone"] == "tiny_strokes"
    assert f"**{percent(row['test_accuracy'])} %**" in done["card"]


@pytest.mark.parametrize("trial", ["b2-0001", "b2-probe-{}"])
def test_export_finds_what_is_named_by_a_path(
    trial: str,
    sweep: Sweep,
    export: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = "shufflenet_v2_x0_5@weights/two/model.safetensors"
    path, weights = sweep("by_path"), tmp_path / "weights" / "two" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_file(shufflenet_v2_x0_5(weights=None).state_dict(), weights)
    monkeypatch.chdir(tmp_path)
    done = export(path, "--trial", trial.format(backbone), "--labels", "budget")
    assert done["about"]["preprocessing"]["image_size"] == 32
    assert "model.safetensors" in done["card"]


@pytest.fixture
def running_0_2_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program, whatever the environment of the tests says of its version."""
    now = resume_checks.result_versions() | {"sft-sweep": "0.2.0"}
    monkeypatch.setattr(resume_checks, "result_versions", lambda: now)


def contents(path: Path) -> dict[str, str]:
    """The hash of every file below a directory."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


@pytest.mark.usefixtures("running_0_2_0")
@pytest.mark.parametrize("options", [[], ["--accept-changes"]])
def test_resume_refuses_what_0_1_0_left_unfinished_and_changes_nothing(
    options: list[str], sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep("killed")
    before = contents(path)
    assert run(["resume", str(path), *options]) == 2
    assert contents(path) == before == contents(SWEEPS / "killed")
    told = capsys.readouterr().err
    assert f"{path}: a sweep of sft-sweep 0.1.0, and this is 0.2.0" in told
    assert "--accept-changes" in told
    assert "leaderboard, report, query and export" in told
    assert f"sft-sweep launch {path}/space.yaml" in told


@pytest.mark.usefixtures("running_0_2_0")
def test_resume_of_what_0_1_0_finished_changes_nothing(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep("finished")
    (path / "report.html").write_text("as it was", encoding="utf-8")
    before = contents(path)
    assert run(["resume", str(path)]) == 0
    assert contents(path) == before
    assert "tiny_strokes" in capsys.readouterr().out


@pytest.mark.usefixtures("running_0_2_0")
def test_resume_of_what_0_1_0_finished_mends_its_tables(sweep: Sweep) -> None:
    path = sweep("finished")
    (path / "report.html").write_text("as it was", encoding="utf-8")
    (path / "finals.parquet").unlink()
    assert run(["resume", str(path)]) == 0
    expected = committed("finished", "finals")
    assert as_written(read_table(path, "finals").to_pylist(), expected) == expected
