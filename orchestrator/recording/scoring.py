"""TestScores of finalists and baselines on the test set, by the metric of their sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.statistics.intervals import Interval, Scale, difference_interval, score_interval
from trainable.spec.trial_spec import Metric

_SMALLEST_PROBABILITY = float(np.finfo(np.float32).smallest_subnormal)
"""Smallest probability that predictions can store; one rounded to 0 counts as this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestScores:
    """Answers of one finalist or baseline for the test images of its sweep.

    Attributes:
        metric: metric of the sweep.
        repeats: (R,) numbers of the repeats, ascending.
        values: (R, I) float64 score of each answer: 1 (right) or 0 (wrong); for log loss the
            negative logarithm of the label's probability. NaN if there is no answer.
        right: (R, I) whether an answer is right.
        labels: (I,) class ids of the images.
    """

    metric: Metric
    repeats: NDArray[np.int64]
    values: NDArray[np.float64]
    right: NDArray[np.bool_]
    labels: NDArray[np.int64]

    def interval(self) -> Interval | None:
        """Return the test score with its interval; None if no image is in all repeats."""
        seen = seen_in_all(self.values)
        if not seen.any():
            return None
        return score_interval(
            self.values[:, seen], classes=self.classes(seen), scale=scale_of(self.metric)
        )

    def accuracy(self) -> float:
        """Return the share of right answers, on the images of `interval`."""
        return float(self.right[:, seen_in_all(self.values)].mean())

    def minus(self, other: TestScores) -> Interval | None:
        """Return the paired difference to `other`; None if they share no repeat or image."""
        _, mine, theirs = np.intersect1d(self.repeats, other.repeats, return_indices=True)
        a, b = self.values[mine], other.values[theirs]
        seen = seen_in_all(a) & seen_in_all(b)
        if not a.size or not seen.any():
            return None
        return difference_interval(
            a[:, seen], b[:, seen], classes=self.classes(seen), scale=scale_of(self.metric)
        )

    def classes(self, seen: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """Return the class ids of the images in `seen` if the metric averages over classes."""
        return self.labels[seen] if self.metric is Metric.BALANCED_ACCURACY else None


def scale_of(metric: Metric) -> Scale:
    """Return the range of values of a metric."""
    return Scale.SHARE if metric.is_share else Scale.LOSS


def seen_in_all(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (I,) whether every repeat predicted the image, from (R, I) values."""
    return np.asarray(~np.isnan(values).any(axis=0))


def score_finalists(
    finals: pa.Table, predictions: pa.Table, metric: Metric
) -> dict[str, TestScores]:
    """Return the scores of every finalist and baseline in both tables, by trial id.

    Args:
        finals: finals of one sweep, by `SCHEMAS`.
        predictions: predictions of the same sweep, of all or some of its trials.
        metric: metric of the sweep.
    """
    if predictions.num_rows == 0:
        return {}
    trial, trial_ids = _codes(predictions["trial_id"])
    image, image_ids = _codes(predictions["image_id"])
    label, _ = _codes(predictions["label"])
    repeat = predictions["repeat"].to_numpy()
    is_right = pc.equal(predictions["predicted"], predictions["label"])
    right = pc.fill_null(is_right, False).to_numpy()
    num_repeats = int(repeat.max()) + 1
    groups, group = np.unique(trial * num_repeats + repeat, return_inverse=True)
    shape = len(groups), len(image_ids)
    values, answers = np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
    answers[group, image] = right
    values[group, image] = right if metric.is_share else _losses(predictions["label_probability"])
    labels = np.zeros(len(image_ids), dtype=np.int64)
    labels[image] = label
    wanted = set(zip(finals["trial_id"].to_pylist(), finals["repeat"].to_pylist(), strict=True))
    members: dict[str, list[tuple[int, int]]] = {}
    for position, code in enumerate(groups):
        trial_id, number = trial_ids[code // num_repeats], int(code % num_repeats)
        if (trial_id, number) in wanted:
            members.setdefault(trial_id, []).append((number, position))
    return {
        trial_id: TestScores(
            metric=metric,
            repeats=np.array([number for number, _ in found], dtype=np.int64),
            values=values[[position for _, position in found]],
            right=answers[[position for _, position in found]],
            labels=labels,
        )
        for trial_id, found in members.items()
    }


def _losses(probabilities: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return (M,) negative logarithms; NaN if a probability is unknown."""
    known = pc.fill_null(probabilities, np.nan).to_numpy()
    return np.asarray(-np.log(np.maximum(known, _SMALLEST_PROBABILITY)))


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Return (M,) indices of the values of `column` into the sorted list of its distinct values.

    The list is sorted so that rounding in sums over images does not depend on the order of rows.
    """
    encoded = pc.dictionary_encode(column).combine_chunks()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return place[encoded.indices.to_numpy()], [names[one] for one in order]
