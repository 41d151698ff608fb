"""How many labels an accuracy takes: the learning curve of a sweep, read backwards.

The curve has a point for each label budget: the test answers of the configuration that validation
would have one use there. Draws are nested (the same repeat adds labels to those it has), so that
the truth does not fall with more labels; where the measured means do, they are pooled by isotonic
regression (Ayer et al. 1955, Annals of Mathematical Statistics 26:641). A running maximum would be
monotone, too, but keeps whatever chance lifted. Between budgets the error is taken as linear in the
logarithm of the labels; beyond them nothing is claimed.

The interval holds every number of labels at which the target lies within the confidence interval
of the accuracy: a test turned into an interval (Fieller 1954, J. Royal Statistical Society B
16:175). That accuracy is a weighted mean of the answers to the same images by the same repeats, so
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

from orchestrator.intervals import score_interval
from orchestrator.leaderboard import MISSING, Row, Scores, picks, score_finalists

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
        test_accuracy: mean over repeats and images.
    """

    label_budget: float
    trial_id: str
    backbone: str | None
    test_accuracy: float


@dataclass(frozen=True, kw_only=True)
class LabelsNeeded:
    """The labels that a test accuracy takes, with one way to choose a configuration.

    Attributes:
        sweep_id: of the sweep.
        method: `finetune`, rank 1 of each budget, or `probe`, its best linear probe.
        target: the accuracy, 0..1.
        needed: labels, by the mean over repeats.
        low: lower end of their 95 % interval.
        high: upper end.
        per_repeat: labels by each repeat alone.
        num_images: test images.
        curve: what was measured, in ascending order of labels.
    """

    sweep_id: str
    method: str
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
    """The labels that a test accuracy takes in one sweep, by fine-tuning and by a linear probe.

    Args:
        sweep_id: of the sweep.
        rows: of its leaderboard, in its order.
        finals: of the sweep, by `SCHEMAS`.
        predictions: of the sweep, by `SCHEMAS`.
        target: accuracy, 0..1.

    Returns:
        One for each method that was scored on the test set, fine-tuning first.
    """
    chosen = {"finetune": picks(rows), "probe": _best_probes(rows)}
    curves = {method: _tested(found) for method, found in chosen.items()}
    trial_ids = pa.array([row["trial_id"] for curve in curves.values() for row in curve])
    used = predictions.filter(pc.is_in(predictions["trial_id"], trial_ids.cast(pa.string())))
    scores = score_finalists(finals, used)
    found = []
    for method, curve in curves.items():
        kept, repeats, answers = _aligned(curve, scores)
        if not kept:
            continue
        labels = np.array([row["label_budget"] for row in kept], dtype=np.float64)
        needed, low, high = _read_backwards(answers, labels, target=target)
        by_repeat = [isotonic_regression(means).x for means in answers.mean(axis=2).T]
        found.append(
            LabelsNeeded(
                sweep_id=sweep_id,
                method=method,
                target=target,
                needed=needed,
                low=low,
                high=high,
                per_repeat={
                    repeat: _needed(means, labels, target=target)
                    for repeat, means in zip(repeats, by_repeat, strict=True)
                },
                num_images=answers.shape[2],
                curve=[
                    Point(
                        label_budget=row["label_budget"],
                        trial_id=row["trial_id"],
                        backbone=row["backbone"],
                        test_accuracy=float(answer.mean()),
                    )
                    for row, answer in zip(kept, answers, strict=True)
                ],
            )
        )
    return found


def _best_probes(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Per study the first probe with a test score: the best one by validation."""
    best: dict[str, Row] = {}
    for row in rows:
        if row["method"] == "probe" and row["test_accuracy"] is not None:
            best.setdefault(row["study"], dict(row))
    return list(best.values())


def _tested(rows: Sequence[Row]) -> list[Row]:
    """Rows with a test score, the first one of each number of labels, in ascending order."""
    budgets: dict[float, Row] = {}
    for row in rows:
        if row["test_accuracy"] is not None and row["label_budget"]:
            budgets.setdefault(row["label_budget"], row)
    return [budgets[labels] for labels in sorted(budgets)]


def _aligned(
    curve: Sequence[Row], scores: Mapping[str, Scores]
) -> tuple[list[Row], list[int], NDArray[np.float64]]:
    """The answers of a curve's budgets to the same images in the same repeats.

    Returns:
        The rows of the curve that have some; the numbers of the R repeats that all of them have;
        and (budgets, R, N) answers, 0 or 1, to the N images that all of these predicted.
    """
    kept = [row for row in curve if row["trial_id"] in scores]
    if not kept:
        return [], [], np.zeros((0, 0, 0))
    found = [scores[row["trial_id"]] for row in kept]
    repeats = reduce(np.intersect1d, [one.repeats for one in found])
    answers = np.stack([one.answers[np.isin(one.repeats, repeats)] for one in found])
    answers = answers[:, :, (answers != MISSING).all(axis=(0, 1))]
    if not answers.size:  # a budget that has only just begun shares no repeat with the others yet
        return _aligned(curve[:-1], scores)
    return kept, repeats.tolist(), answers.astype(np.float64)


def _read_backwards(
    answers: NDArray[np.float64], labels: NDArray[np.float64], *, target: float
) -> tuple[Labels, Labels, Labels]:
    """The labels needed, and the two ends of their interval.

    Args:
        answers: (K, R, N) per budget, repeat and image, 0 or 1.
        labels: (K,) labels per class of each budget, ascending.
        target: accuracy, 0..1.
    """
    pooled = _pool(answers)
    ends = [score_interval(values) for values in pooled]

    def meeting(name: str) -> Callable[[int], float]:
        """Where an end of the interval is the target, between a budget and the next one."""

        def share(before: int) -> float:
            below, above = 0.0, 1.0
            for _ in range(_BISECTIONS):
                middle = (below + above) / 2
                mixed = (1 - middle) * pooled[before] + middle * pooled[before + 1]
                if getattr(score_interval(mixed), name) < target:
                    below = middle
                else:
                    above = middle
            return above

        return share

    possible = np.array([end.high for end in ends]) >= target - _ROUNDING
    certain = np.array([end.low for end in ends]) >= target - _ROUNDING
    certain = np.logical_and.accumulate(certain[::-1])[::-1]  # there and with all more labels
    return (
        _needed(pooled.mean(axis=(1, 2)), labels, target=target),
        _first(possible, labels, meeting("high")),
        _first(certain, labels, meeting("low")),
    )


def _pool(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """`answers`, averaged over neighbouring budgets where their means would fall."""
    fit = isotonic_regression(answers.mean(axis=(1, 2)))
    return np.concatenate(
        [
            np.broadcast_to(answers[a:b].mean(axis=0), (b - a, *answers.shape[1:]))
            for a, b in pairwise(fit.blocks)
        ]
    )


def _needed(means: NDArray[np.float64], labels: NDArray[np.float64], *, target: float) -> Labels:
    """Where accuracies that do not fall reach the target."""

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
