from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import optuna
import pandas as pd
import polars as pl
import pytest
import yaml
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.cli.main import run as run_cli
from orchestrator.recording.projection import rebuild
from orchestrator.recording.table_schemas import KEYS, SCHEMA_VERSION, SCHEMAS
from orchestrator.recording.tables import read_table
from tests.builders.sweeps import sweep_in_process
from trainable.backbones import zoo

if TYPE_CHECKING:
    from tests.integration.conftest import Launched

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
SCORES = ["trial_id", "state", "params", "val_objective", "val_loss", "train_loss", "reports"]


def table(path: Path, name: str) -> pd.DataFrame:
    return read_table(path, name).to_pandas()


def studies(path: Path) -> dict[str, optuna.Study]:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path / "journal.log")))
    names = [study.study_name for study in storage.get_all_studies()]
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_launch_ends_with_a_row_for_every_trial_and_baseline(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials")
    assert small_sweep.code == 0
    assert (trials.method == "finetune").sum() == 2 * 6
    assert sorted(trials[trials.method != "finetune"].trial_id) == sorted(
        f"{study}-{rest}"
        for study in ("b2", "b5")
        for rest in ("pixels", *(f"probe-{name}" for name in zoo.ENTRIES))
    )
    assert set(trials.state) <= {"complete", "pruned"}
    assert trials.schema_version.eq(SCHEMA_VERSION).all()


@pytest.mark.parametrize("name", [name for name in KEYS if name != "leaderboard"])
def test_keys_are_unique(small_sweep: Launched, name: str) -> None:
    rows = table(small_sweep.path, name)
    assert len(rows)
    assert not rows.duplicated(list(KEYS[name])).any()


def test_the_journal_agrees_with_the_table_state_by_state(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials").set_index("trial_id")
    seen = 0
    for name, study in studies(small_sweep.path).items():
        for trial in study.get_trials():
            row = trials.loc[f"{name}-{trial.number:04d}"]
            assert row.state == STATES[trial.state]
            assert row.reports == len(trial.intermediate_values)
            if trial.state is TrialState.COMPLETE:
                assert row.val_objective == trial.value
            seen += 1
    assert seen == 12


def test_pruned_trials_have_fewer_reports_than_complete_ones(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials")
    finetuned = trials[trials.method == "finetune"]
    assert finetuned[finetuned.state == "complete"].reports.eq(1 + 4).all()
    assert finetuned[finetuned.state == "pruned"].reports.lt(1 + 4).all()


def test_every_curve_begins_with_the_probe_of_its_backbone(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials").set_index("trial_id")
    probes = trials[trials.method == "probe"].set_index(["study", "backbone"])
    curves = table(small_sweep.path, "curves")
    starts = curves[curves.report == 0].set_index("trial_id")
    assert len(starts) == (trials.method == "finetune").sum() > 0
    assert starts.step.eq(0).all()
    assert starts.train_loss.isna().all()
    assert curves[curves.report > 0].train_loss.notna().all()
    for trial_id, start in starts.iterrows():
        trial = trials.loc[trial_id]
        probe = probes.loc[trial.study, trial.backbone]
        assert start.val_accuracy == probe.val_accuracy
        assert start.val_loss == pytest.approx(probe.val_loss, abs=1e-4)
        if trial.reports > 1:
            assert trial.gain_over_start == trial.val_objective - start.val_objective


def test_tables_rebuilt_from_the_journal_are_the_same(
    small_sweep: Launched, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_sweep.path, copy)
    for name in SCHEMAS:
        (copy / f"{name}.parquet").unlink()
    rebuild(copy, small_sweep.path.name)
    for name in SCHEMAS:
        again, first = read_table(copy, name), read_table(small_sweep.path, name)
        assert again.num_rows == first.num_rows > 0
        assert again.equals(first), name


@pytest.mark.parametrize("name", SCHEMAS)
def test_duckdb_polars_and_pandas_read_every_table(small_sweep: Launched, name: str) -> None:
    path = small_sweep.path / f"{name}.parquet"
    expected = read_table(small_sweep.path, name).num_rows
    rows = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
    assert len(rows) == expected > 0
    assert pl.read_parquet(path).height == expected
    assert len(pd.read_parquet(path)) == expected


def test_test_accuracies_are_those_of_the_predictions(small_sweep: Launched) -> None:
    predictions = small_sweep.path / "predictions.parquet"
    counted = duckdb.sql(
        "select trial_id, repeat, avg((label = predicted)::int), count(*) "
        f"from read_parquet('{predictions}') group by all"
    ).fetchall()
    finals = table(small_sweep.path, "finals").set_index(["trial_id", "repeat"])
    assert len(counted) == len(finals) == 2 * (2 * 2 + 4 * 2)
    for trial_id, repeat, accuracy, count in counted:
        assert finals.loc[(trial_id, repeat)].test_accuracy == pytest.approx(accuracy, abs=1e-12)
        assert finals.loc[(trial_id, repeat)].num_test == count == 797
    board = table(small_sweep.path, "leaderboard").set_index("trial_id")
    means = finals.groupby("trial_id").test_accuracy.mean()
    assert board.test_accuracy.dropna().to_dict() == pytest.approx(means.to_dict())


def test_only_finalists_and_baselines_touch_the_test_set(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials").set_index("trial_id")
    finals = table(small_sweep.path, "finals")
    finetuned = [t for t in finals.trial_id.unique() if trials.loc[t].method == "finetune"]
    for study in ("b2", "b5"):
        mine = [trial for trial in finetuned if trial.startswith(study)]
        assert len(mine) == 2
    baselines = trials[trials.method != "finetune"].index
    assert set(baselines) < set(finals.trial_id)


def test_rank_one_is_the_best_trial_or_probe_by_validation(small_sweep: Launched) -> None:
    trials = table(small_sweep.path, "trials")
    complete = trials[(trials.method != "pixels") & (trials.state == "complete")]
    for study, rows in table(small_sweep.path, "leaderboard").groupby("study"):
        ranked = rows.dropna(subset=["rank"]).sort_values("rank")
        mine = complete[complete.study == study]
        assert ranked.iloc[0].val_objective == mine.val_objective.max()
        assert ranked.val_objective.is_monotonic_decreasing
        assert set(ranked.trial_id) <= set(mine.trial_id)


def test_the_directory_holds_what_the_contract_says(small_sweep: Launched) -> None:
    names = {path.name for path in small_sweep.path.iterdir()}
    assert names == {
        "space.yaml",
        "manifest.json",
        "journal.log",
        "sweep.log",
        "report.html",
        *(f"{name}.parquet" for name in SCHEMAS),
    }


def test_the_answer_has_at_most_five_lines_and_names_the_directory(small_sweep: Launched) -> None:
    lines = small_sweep.output["answer"]
    assert 0 < len(lines) <= 5
    assert any("use tiny_" in line and "%" in line for line in lines)
    assert any(str(small_sweep.path) in line for line in lines)


def test_resuming_a_finished_sweep_changes_nothing(
    small_sweep: Launched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / small_sweep.path.name
    shutil.copytree(small_sweep.path, copy)

    def contents(directory: Path) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
        }

    assert run_cli(["resume", str(copy)]) == 0
    assert contents(copy) == contents(small_sweep.path)
    assert "tiny_strokes" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_spoils_nothing_else(
    small_sweep: Launched,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_sweep.path, copy)
    (copy / "report.html").unlink()

    def fail(*_args: object, **_options: object) -> None:
        raise ValueError("no such figure")

    monkeypatch.setattr("orchestrator.reading.report.write_report", fail)
    assert run_cli(["resume", str(copy)]) == 0
    out, messages = capsys.readouterr()
    assert f"Tables and journal: {copy}" in out
    assert (
        f"{copy / 'report.html'}: not written: no such figure. Try again with: sft-sweep report "
        f"{copy}"
    ) in messages


def test_status_list_and_leaderboard_read_a_finished_sweep(
    small_sweep: Launched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["status", str(small_sweep.path)]) == 0
    out = capsys.readouterr().out
    assert "finished" in out
    assert "6/6" in out
    assert run_cli(["list", "--out", str(small_sweep.path.parent)]) == 0
    assert "12/12" in capsys.readouterr().out
    assert run_cli(["leaderboard", str(small_sweep.path), "--budget", "5", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| labels | rank |")
    assert all(line.startswith("| 5 |") for line in lines[2:])


def test_the_same_seed_gives_the_same_trials_and_scores_with_and_without_a_cluster(
    small_sweep: Launched, tmp_path: Path
) -> None:
    space = yaml.safe_load((small_sweep.path / "space.yaml").read_text())
    space["search"]["label_budget"] = [2]
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(space))
    again = sweep_in_process(tmp_path / "again.yaml", tmp_path)
    for name, columns in (
        ("trials", SCORES),
        ("finals", ["trial_id", "repeat", "test_accuracy", "test_loss"]),
        ("predictions", ["trial_id", "repeat", "image_id", "predicted", "probability"]),
    ):
        first, second = table(small_sweep.path, name), table(again, name)
        first = first[first.trial_id.str.startswith("b2-")].reset_index(drop=True)
        assert len(first)
        pd.testing.assert_frame_equal(first[columns], second[columns], check_exact=True)


@pytest.mark.slow
def test_a_random_sampler_gives_the_same_scores_two_at_a_time(
    launch_in: Callable[..., Launched],
) -> None:
    settings = ("sampler.name=random", "pruner={name: none}", "trials=4", "seed=3")
    runs = [launch_in(*settings, f"resources.max_concurrent={slots}") for slots in (1, 2)]
    first, second = (table(run.path, "trials")[SCORES] for run in runs)
    assert set(first.state) == {"complete"}
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    columns = ["trial_id", "repeat", "test_accuracy", "test_loss"]
    first, second = (table(run.path, "finals")[columns] for run in runs)
    pd.testing.assert_frame_equal(first, second, check_exact=True)


NARROW = """
import torch
from torch import nn


def narrow(features):
    if torch.is_grad_enabled() and len(features) > 8:
        raise RuntimeError(f"cannot allocate {len(features)} rows")
    return features


torch.fx.wrap("narrow")


class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(4, 10)
        self.preprocessing = {"image_size": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}

    def forward(self, images):
        return self.head(narrow(self.body(images).flatten(1)))


def build():
    torch.manual_seed(0)
    return Narrow()
"""
"""A backbone that can be rehearsed and fails in training with batches above 8 images."""


def test_a_diverged_trial_is_pruned_a_failing_one_failed_and_the_rest_goes_on(
    launch_in: Callable[..., Launched], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "narrow.py").write_text(NARROW)
    space = tmp_path / "faulty.yaml"
    space.write_text(
        "dataset: {source: digits}\n"
        "search:\n"
        "  backbone: {name: narrow, module: 'narrow:build'}\n"
        "  batch_size: [8, 32]\n"
        "  lr: [1e-3, 1e30]\n"
        "sampler: {name: grid}\n"
    )
    done = launch_in("search.label_budget=5", "trials=4", space=space, folder=tmp_path)
    assert done.code == 3
    trials = table(done.path, "trials")
    rows = trials[trials.method == "finetune"]
    failed, pruned = rows[rows.state == "failed"], rows[rows.state == "pruned"]
    assert (rows.state == "complete").sum() == 1
    assert len(failed) == 2
    assert failed.failure.str.contains("allocate").all()
    assert list(pruned.failure) == ["nonfinite"]
    assert done.output["failures"] == 2
    assert run_cli(["status", str(done.path)]) == 0
    assert "allocate" in capsys.readouterr().out
    states = [trial.state for trial in studies(done.path)["b5"].get_trials()]
    assert TrialState.RUNNING not in states


@pytest.mark.slow
def test_a_time_limit_ends_cleanly_with_finalists_scored(
    launch_in: Callable[..., Launched],
) -> None:
    done = launch_in("limits.hours=0.01", "trials=5000", "search.label_budget=[2]")
    trials = table(done.path, "trials")
    rows = trials[trials.method == "finetune"]
    assert done.code == 0
    assert 0 < len(rows) < 5000
    assert set(rows.state) <= {"complete", "pruned"}
    assert set(rows.failure.dropna()) <= {"time_limit"}
    finals = set(table(done.path, "finals").trial_id)
    assert finals & set(rows[rows.state == "complete"].trial_id)
    assert all(trial.state.is_finished() for trial in studies(done.path)["b2"].get_trials())
