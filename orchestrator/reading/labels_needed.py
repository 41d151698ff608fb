"""Numbers of labels that a test score takes, by fine-tuning and by linear probes.

Each method has a learning curve with a point per label budget: the test answers of the
configuration of that method that validation recommends there. `learning_curve` inverts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import isotonic_regression

from orchestrator.methods import Method
from orchestrator.reading.learning_curve import (
    CurveAnswers,
    Labels,
    Place,
    labels_at,
    labels_of_means,
)
from orchestrator.recording.leaderboard import Row, recommended_rows
from orchestrator.recording.scoring import TestScores, score_finalists, seen_in_all
from trainable.spec.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Point:
    """One label budget of a learning curve.

    Attributes:
        label_budget: labels per class.
        trial_id: id of the configuration used there.
        backbone: name of its backbone.
        test_score: mean test score over repeats.
    """

    label_budget: float
    trial_id: str
    backbone: str | None
    test_score: float


@dataclass(frozen=True, kw_only=True)
class LabelsNeeded:
    """The labels that one method needs for a test score.

    Attributes:
        sweep_id: id of the sweep.
        method: `finetune` or `probe`; the best configuration by validation is used at each budget.
        metric: metric of the score.
        target: the score, 0..1.
        needed: labels per class, from the mean over repeats.
        low: lower end of their 95 % interval.
        high: upper end of their 95 % interval.
        per_repeat: labels per class, from each repeat alone.
        num_images: number of test images.
        curve: measured points, in ascending order of labels.
    """

    sweep_id: str
    method: str
    metric: Metric
    target: float
    needed: Labels
    low: Labels
    high: Labels
    per_repeat: Mapping[int, Labels]
    num_images: int
    curve: Sequence[Point]

    @property
    def text(self) -> str:
        """Result in words."""
        ends = dict.fromkeys((self.low.text, self.high.text))
        interval = f"(95 %: {' to '.join(ends)})"
        if self.needed.place is Place.BEYOND:
            return f"not reached by {self.needed.labels_per_class:.3g} labels per class {interval}"
        return f"{self.needed.text} labels per class {interval}"


def find_labels_needed(
    sweep_id: str,
    rows: Sequence[Mapping[str, Any]],
    finals: pa.Table,
    predictions: pa.Table,
    *,
    target: float,
) -> list[LabelsNeeded]:
    """Return the labels that a test score takes in one sweep, by fine-tuning and by a probe.

    The score is the sweep's objective, or the accuracy if the objective is a loss.

    Args:
        sweep_id: id of the sweep.
        rows: rows of its leaderboard, in its order.
        finals: the sweep's table, by `SCHEMAS`.
        predictions: the sweep's table, by `SCHEMAS`.
        target: score, 0..1.

    Returns:
        One per method that was scored on the test set, fine-tuning first.
    """
    metric = _share_of(rows)
    curves = {
        method: _tested(recommended_rows(rows, method=method))
        for method in (Method.FINETUNE, Method.PROBE)
    }
    trial_ids = pa.array([row["trial_id"] for curve in curves.values() for row in curve])
    used = predictions.filter(pc.is_in(predictions["trial_id"], trial_ids.cast(pa.string())))
    scores = score_finalists(finals, used, metric)
    found = []
    for method, curve in curves.items():
        aligned = _aligned(curve, scores)
        if aligned is None:
            continue
        labels = np.array([row["label_budget"] for row in aligned.rows], dtype=np.float64)
        needed, low, high = labels_at(aligned, labels, target=target)
        by_repeat = [isotonic_regression(means).x for means in aligned.means().T]
        found.append(
            LabelsNeeded(
                sweep_id=sweep_id,
                method=method,
                metric=metric,
                target=target,
                needed=needed,
                low=low,
                high=high,
                per_repeat={
                    repeat: labels_of_means(means, labels, target=target)
                    for repeat, means in zip(aligned.repeats, by_repeat, strict=True)
                },
                num_images=aligned.num_images,
                curve=[
                    Point(
                        label_budget=row["label_budget"],
                        trial_id=row["trial_id"],
                        backbone=row["backbone"],
                        test_score=float(means.mean()),
                    )
                    for row, means in zip(aligned.rows, aligned.means(), strict=True)
                ],
            )
        )
    return found


def _share_of(rows: Sequence[Mapping[str, Any]]) -> Metric:
    """Return the metric of a leaderboard, or accuracy if that is a loss."""
    metric = Metric(next((row["metric"] for row in rows if row["metric"]), Metric.ACCURACY))
    return metric if metric.is_share else Metric.ACCURACY


def _tested(rows: Sequence[Row]) -> list[Row]:
    """Return the first tested row of each label budget, in ascending order of labels."""
    budgets: dict[float, Row] = {}
    for row in rows:
        if row["test_score"] is not None and row["label_budget"]:
            budgets.setdefault(row["label_budget"], row)
    return [budgets[labels] for labels in sorted(budgets)]


def _aligned(curve: Sequence[Row], scores: Mapping[str, TestScores]) -> CurveAnswers | None:
    """Return the answers of the budgets that can be compared; None if there are none."""
    kept = [row for row in curve if row["trial_id"] in scores]
    if not kept:
        return None
    found = [scores[row["trial_id"]] for row in kept]
    repeats = reduce(np.intersect1d, [one.repeats for one in found])
    seen = seen_in_all(found, repeats)
    if not repeats.size or not seen.any():
        # The last budget may have begun just now and share no repeat with the others yet.
        return _aligned(curve[:-1], scores)
    return CurveAnswers(kept, repeats.tolist(), [one.outcomes(repeats, seen) for one in found])
