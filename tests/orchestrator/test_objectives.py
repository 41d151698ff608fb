"""Sweeps by metrics that are no means over examples, from the trials to the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score, roc_auc_score

from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.tables import read_table
from tests.builders.sweeps import sweep_in_process

SPACE = {
    "dataset": {"source": "digits", "test": 0.05},
    "search": {"backbone": "tiny_strokes", "freeze_depth": [0.5, 1], "label_budget": [3]},
    "trials": 2,
    "training": {"steps": 6, "reports": 2},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": ["probe", "pixels"],
}


@pytest.fixture(scope="module", params=["macro_f1", "auroc"])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep by one of the metrics."""
    root = tmp_path_factory.mktemp("objectives")
    space = root / "space.yaml"
    space.write_text(yaml.safe_dump({**SPACE, "objective": {"metric": request.param}}))
    return sweep_in_process(space, root / "runs")


def score(rows: list[dict[str, Any]], metric: str) -> float:
    """The metric by scikit-learn, from rows of `predictions`."""
    labels = [row["label"] for row in rows]
    if metric == "macro_f1":
        predicted = [row["predicted"] for row in rows]
        return float(
            f1_score(
                labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0
            )
        )
    given = [{one["class"]: one["probability"] for one in row["probabilities"]} for row in rows]
    assert all(sum(one.values()) == pytest.approx(1, abs=1e-5) for one in given)
    areas = [
        roc_auc_score([label == name for label in labels], [one[name] for one in given])
        for name in sorted(set(labels))
    ]
    return float(np.mean(areas))


def test_test_scores_are_those_of_scikit_learn_on_the_stored_predictions(swept: Path) -> None:
    finals = read_table(swept, "finals").to_pylist()
    predictions = read_table(swept, "predictions").to_pylist()
    assert {row["trial_id"] for row in finals} > {"b3-pixels", "b3-probe-tiny_strokes"}
    for final in finals:
        place = final["trial_id"], final["repeat"]
        rows = [row for row in predictions if (row["trial_id"], row["repeat"]) == place]
        assert len(rows) == final["num_test"]
        assert final["test_score"] == pytest.approx(score(rows, final["metric"]), abs=1e-6)


def test_the_leaderboard_has_the_mean_of_the_repeats_with_an_interval_around_it(
    swept: Path,
) -> None:
    names = ("trials", "finals", "predictions", "leaderboard")
    trials, finals, predictions, board = (read_table(swept, name) for name in names)
    scores: dict[str, list[float]] = {}
    for final in finals.to_pylist():
        scores.setdefault(final["trial_id"], []).append(final["test_score"])
    tested = [row for row in board.to_pylist() if row["test_score"] is not None]
    assert len(tested) == len(scores)
    for row in tested:
        assert row["test_score"] == pytest.approx(np.mean(scores[row["trial_id"]]), abs=1e-6)
        assert row["test_ci_low"] < row["test_score"] < row["test_ci_high"]
        assert row["val_score"] == row["val_objective"]
        assert (row["task"], row["budget_unit"]) == ("classification", "labels per class")
    assert build_leaderboard(trials, finals, predictions) == board.to_pylist()


def test_all_probabilities_are_kept_only_where_the_metric_needs_them(swept: Path) -> None:
    predictions = read_table(swept, "predictions")
    metric = read_table(swept, "finals")["metric"][0].as_py()
    kept = predictions.num_rows if metric == "auroc" else 0
    assert predictions["probabilities"].null_count == predictions.num_rows - kept
