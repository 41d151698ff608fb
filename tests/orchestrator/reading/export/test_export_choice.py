from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.reading.export.choice import choose
from orchestrator.recording.sweep_directory import Run
from tests.builders.written_sweeps import digits_sweep, write_sweep
from tests.orchestrator.recording.test_leaderboard import trial


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(digits_sweep(tmp_path / "run"))


@pytest.mark.parametrize(
    ("budget", "trial_id"),
    [(None, "b10-0001"), ("2", "b2-0001"), ("2.0", "b2-0001"), ("b10", "b10-0001")],
)
def test_the_best_of_a_budget_is_taken(run: Run, budget: str | None, trial_id: str) -> None:
    choice = choose(run, trial_id=None, budget=budget)
    assert choice.trial_id == trial_id
    assert choice.reason == "by validation it is the best of its label budget"
    assert [final["repeat"] for final in choice.finals] == [0, 1, 2]
    assert choice.board is not None
    assert choice.board["rank"] == 1


def test_one_that_is_named_is_taken_probes_included(run: Run) -> None:
    assert choose(run, trial_id="b2-0002", budget=None).text == (
        "b2-0002: resnet18, freeze depth 0.5, lr 0.001"
    )
    probe = choose(run, trial_id="b10-probe-tiny_strokes", budget=None)
    assert probe.text == "b10-probe-tiny_strokes: linear probe on tiny_strokes"
    assert probe.reason == "it was asked for by its id"


def test_the_first_with_a_test_score_goes_before_a_higher_rank_without(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "run",
        trials=[trial("b5-0000", 0.9), trial("b5-0001", 0.8)],
        tested={"b5-0001": [[1, 0]]},
    )
    choice = choose(Run(sweep), trial_id=None, budget=None)
    assert choice.trial_id == "b5-0001"
    assert choice.reason == "rank 2 of its label budget by validation, the first with a test score"


@pytest.mark.parametrize(
    ("trial_id", "message"),
    [
        ("b2-0009", "b2-0009: no such trial, or one that has not settled; allowed: b2-0000, b2-0"),
        ("b2-pixels", "b2-pixels: raw pixels are classified without a network; allowed: "),
    ],
)
def test_what_cannot_be_exported_is_refused_with_what_can(
    run: Run, trial_id: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose(run, trial_id=trial_id, budget=None)


def test_pruned_and_failed_trials_are_refused_with_their_reason(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "run",
        trials=[
            trial("b5-0000", 0.9),
            trial("b5-0001", 0.8, state="pruned", failure="nonfinite"),
            trial("b5-0002", None, state="failed", failure="MemoryError: none left"),
        ],
    )
    with pytest.raises(UsageError, match=r"b5-0001: it was pruned \(nonfinite\), so that .* allow"):
        choose(Run(sweep), trial_id="b5-0001", budget=None)
    with pytest.raises(UsageError, match="b5-0002: it failed: MemoryError: none left; allowed: b5"):
        choose(Run(sweep), trial_id="b5-0002", budget=None)


def test_an_unknown_budget_and_two_ways_to_choose_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="--budget 3: not in this sweep; allowed: 2, 10"):
        choose(run, trial_id=None, budget="3")
    with pytest.raises(UsageError, match="--trial and --budget: give one of them at most"):
        choose(run, trial_id="b2-0000", budget="2")


def test_a_sweep_without_a_complete_trial_has_nothing_to_export(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "run", trials=[trial("b5-0000", 0.5, state="pruned")])
    with pytest.raises(UsageError, match="no trial has completed, so there is nothing to export"):
        choose(Run(sweep), trial_id=None, budget=None)
    with pytest.raises(UsageError, match=r"it was pruned, .*; no trial has completed; see: sft-sw"):
        choose(Run(sweep), trial_id="b5-0000", budget=None)
