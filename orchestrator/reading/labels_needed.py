"""How many labels a test score takes: the learning curve of a sweep, read backwards.

There is a curve for fine-tuning and one for linear probes, with a point for each label budget: the
test answers of the configuration of that kind that validation would have one use there. Draws are
nested (the same repeat adds labels to those it has), so that the truth does not fall with more
labels; where the measured means do, they are pooled by isotonic regression (Ayer et al. 1955,
Annals of Mathematical Statistics 26:641). A running maximum would be monotone, too, but keeps
whatever chance lifted. Between budgets the error is taken as linear in the logarithm of the labels;
beyond them nothing is claimed.

The interval holds every number of labels at which the target lies within the confidence interval
of the score: a test turned into an interval (Fieller 1954, J. Royal Statistical Society B
16:175). That score is a weighted mean of the answers to the same images by the same repeats, so
that `intervals` applies to it, the chance of draws and of test images included. Resampling the
repeats instead would be too sure of itself: there are five of them as a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from orchestrator.methods import Method
from orchestrator.recording.leaderboard import Row, recommended_rows
from orchestrator.recording.scoring import Scores, score_finalists, seen_in_all
from orchestrator.statistics.intervals import pseudo_values, score_interval
from trainable.spec.trial_spec import Metric

_ROUNDING = 1e-12
"""Shares that differ by less are equal."""

_BISECTIONS = 40


class Place(StrEnum):
    """Where a number of labels lies."""

    WITHIN = "within"
    SMALLEST = "smallest_budget_or_fewer"
    BEYOND = "beyond_largest_budget"


@dataclass(frozen=True)
class Labels:
    """A number of labels per class, as far as the budgets tell.

    Attributes:
        place: between budgets, at the smallest one or below it, or beyond the largest one.
        labels_per_class: there; of the smallest or the largest budget where it lies outside.
    """

    place: Place
    labels_per_class: float

    @property
    def text(self) -> str:
        """The number as people read it."""
        number = f"{self.labels_per_class:.3g}"
        if self.place is Place.SMALLEST:
            return f"{number} or fewer"
        return f"more than {number}" if self.place is Place.BEYOND else number


@dataclass(frozen=True, kw_only=True)
class Point:
    """One label budget of a learning curve.

    Attributes:
        label_budget: labels per class.
        trial_id: of the configuration used there.
        backbone: its name.
        test_score: mean over repeats.
    """

    label_budget: float
    trial_id: str
    backbone: str | None
    test_score: float


@dataclass(frozen=True, kw_only=True)
class LabelsNeeded:
    """The labels that a test score takes, with one way to choose a configuration.

    Attributes:
        sweep_id: of the sweep.
        method: `finetune` or `probe`, of which the best by validation is used at each budget.
        metric: of the score.
        target: the score, 0..1.
        needed: labels, by the mean over repeats.
        low: lower end of their 95 % interval.
        high: upper end.
        per_repeat: labels by each repeat alone.
        num_images: test images.
        curve: what was measured, in ascending order of labels.
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
        """The answer in words."""
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
    """The labels that a test score takes in one sweep, by fine-tuning and by a linear probe.

    The score is that of the sweep's objective, or the accuracy where that is a loss.

    Args:
        sweep_id: of the sweep.
        rows: of its leaderboard, in its order.
        finals: of the sweep, by `SCHEMAS`.
        predictions: of the sweep, by `SCHEMAS`.
        target: score, 0..1.

    Returns:
        One for each method that was scored on the test set, fine-tuning first.
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
        needed, low, high = _read_backwards(aligned, labels, target=target)
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
                    repeat: _needed(means, labels, target=target)
                    for repeat, means in zip(aligned.repeats, by_repeat, strict=True)
                },
                num_images=aligned.values.shape[2],
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
    """The metric of a leaderboard that a share is asked of."""
    metric = Metric(next((row["metric"] for row in rows if row["metric"]), Metric.ACCURACY))
    return metric if metric.is_share else Metric.ACCURACY


def _tested(rows: Sequence[Row]) -> list[Row]:
    """Rows with a test score, the first one of each number of labels, in ascending order."""
    budgets: dict[float, Row] = {}
    for row in rows:
        if row["test_score"] is not None and row["label_budget"]:
            budgets.setdefault(row["label_budget"], row)
    return [budgets[labels] for labels in sorted(budgets)]


@dataclass(frozen=True, eq=False)
class _Aligned:
    """The answers of a curve's K budgets to the same images in the same repeats.

    Attributes:
        rows: of the budgets that have some.
        repeats: numbers of the R repeats that all of them have.
        values: (K, R, N) per budget, repeat and image that all of these predicted, in 0..1.
        classes: (N,) class ids, where the score is a mean over classes.
    """

    rows: list[Row]
    repeats: list[int]
    values: NDArray[np.float64]
    classes: NDArray[np.int64] | None

    def means(self) -> NDArray[np.float64]:
        """(K, R) scores."""
        return np.stack([pseudo_values(one, self.classes).mean(axis=1) for one in self.values])


def _aligned(curve: Sequence[Row], scores: Mapping[str, Scores]) -> _Aligned | None:
    """The answers of the budgets of a curve that can be compared; None where there are none."""
    kept = [row for row in curve if row["trial_id"] in scores]
    if not kept:
        return None
    found = [scores[row["trial_id"]] for row in kept]
    repeats = reduce(np.intersect1d, [one.repeats for one in found])
    values = np.stack([one.values[np.isin(one.repeats, repeats)] for one in found])
    seen = seen_in_all(values.reshape(-1, values.shape[2]))
    if not values.size or not seen.any():
        # A budget that has only just begun shares no repeat with the others yet.
        return _aligned(curve[:-1], scores)
    return _Aligned(kept, repeats.tolist(), values[:, :, seen], found[0].classes(seen))


def _read_backwards(
    aligned: _Aligned, labels: NDArray[np.float64], *, target: float
) -> tuple[Labels, Labels, Labels]:
    """The labels needed, and the two ends of their interval.

    Args:
        aligned: answers of K budgets.
        labels: (K,) labels per class of each budget, ascending.
        target: score, 0..1.
    """
    fit = isotonic_regression(aligned.means().mean(axis=1))
    pooled = _pool(aligned.values, fit.blocks)
    ends = [score_interval(values, classes=aligned.classes) for values in pooled]

    def meeting(name: str) -> Callable[[int], float]:
        """Where an end of the interval is the target, between a budget and the next one."""

        def share(before: int) -> float:
            below, above = 0.0, 1.0
            for _ in range(_BISECTIONS):
                middle = (below + above) / 2
                mixed = (1 - middle) * pooled[before] + middle * pooled[before + 1]
                if getattr(score_interval(mixed, classes=aligned.classes), name) < target:
                    below = middle
                else:
                    above = middle
            return above

        return share

    possible = np.array([end.high for end in ends]) >= target - _ROUNDING
    certain = np.array([end.low for end in ends]) >= target - _ROUNDING
    certain = np.logical_and.accumulate(certain[::-1])[::-1]  # there and with all more labels
    return (
        _needed(fit.x, labels, target=target),
        _first(possible, labels, meeting("high")),
        _first(certain, labels, meeting("low")),
    )


def _pool(values: NDArray[np.float64], blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """`values`, averaged over the neighbouring budgets of each block.

    Args:
        values: (K, R, N) per budget, repeat and image.
        blocks: where the blocks begin, and K.
    """
    return np.concatenate(
        [
            np.broadcast_to(values[a:b].mean(axis=0), (b - a, *values.shape[1:]))
            for a, b in pairwise(blocks)
        ]
    )


def _needed(means: NDArray[np.float64], labels: NDArray[np.float64], *, target: float) -> Labels:
    """Where scores that do not fall reach the target."""

    def share(before: int) -> float:
        below, above = means[before], means[before + 1]
        return float(min(1.0, (target - below) / (above - below)))

    return _first(means >= target - _ROUNDING, labels, share)


def _first(
    reached: NDArray[np.bool_], labels: NDArray[np.float64], share: Callable[[int], float]
) -> Labels:
    """The fewest labels with which something is reached.

    Args:
        reached: (K,) whether it is, with each budget.
        labels: (K,) labels per class of each budget, ascending.
        share: of the way from a budget to the next one, on the scale of log labels, at which it is;
            asked for one budget alone.
    """
    if not reached.any():
        return Labels(Place.BEYOND, float(labels[-1]))
    first = int(reached.argmax())
    if first == 0:
        return Labels(Place.SMALLEST, float(labels[0]))
    way = share(first - 1)
    return Labels(Place.WITHIN, float(labels[first - 1] ** (1 - way) * labels[first] ** way))
