"""Scores of finalists and baselines on the test set, by the metric of their sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.recording.statistics.intervals import (
    Interval,
    difference_interval,
    score_interval,
)
from orchestrator.recording.statistics.outcomes import (
    Outcomes,
    Scale,
    auroc_outcomes,
    class_mean_outcomes,
    macro_f1_outcomes,
    mean_outcomes,
)
from trainable.spec.metrics import Metric

_SMALLEST_PROBABILITY = float(np.finfo(np.float32).smallest_subnormal)
"""Smallest probability that predictions can store; one rounded to 0 counts as this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestAnswers:
    """Answers of one finalist or baseline for the test images of its sweep.

    Attributes:
        repeats: (R,) numbers of the repeats, ascending.
        known: (R, I) whether there is an answer that can be scored.
        predicted: (R, I) class ids.
        label_probability: (R, I) float64 of the true class; NaN if it is unknown.
        probabilities: (R, I, C) float32 of all classes; None if the metric does not need them.
        labels: (I,) class ids of the images.
    """

    __test__ = False  # pytest would collect a class of this name

    repeats: NDArray[np.int64]
    known: NDArray[np.bool_]
    predicted: NDArray[np.int64]
    label_probability: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    labels: NDArray[np.int64]

    def of(self, repeats: NDArray[np.int64], images: NDArray[np.bool_]) -> TestAnswers:
        """Return the answers of some repeats, which it has, for the images in a mask."""
        rows = np.searchsorted(self.repeats, repeats)
        of_all = self.probabilities
        return TestAnswers(
            repeats=repeats,
            known=self.known[rows][:, images],
            predicted=self.predicted[rows][:, images],
            label_probability=self.label_probability[rows][:, images],
            probabilities=None if of_all is None else of_all[rows][:, images],
            labels=self.labels[images],
        )


def _right(answers: TestAnswers) -> NDArray[np.bool_]:
    return np.asarray(answers.predicted == answers.labels)


def _log_loss(answers: TestAnswers) -> Outcomes:
    losses = -np.log(np.maximum(answers.label_probability, _SMALLEST_PROBABILITY))
    return mean_outcomes(losses, scale=Scale.LOSS)


def _auroc(answers: TestAnswers) -> Outcomes:
    assert answers.probabilities is not None  # `known` is false without
    return auroc_outcomes(answers.probabilities, answers.labels)


OUTCOMES: Mapping[Metric, Callable[[TestAnswers], Outcomes]] = {
    Metric.ACCURACY: lambda answers: mean_outcomes(_right(answers)),
    Metric.BALANCED_ACCURACY: lambda answers: class_mean_outcomes(_right(answers), answers.labels),
    Metric.MACRO_F1: lambda answers: macro_f1_outcomes(answers.predicted, answers.labels),
    Metric.AUROC: _auroc,
    Metric.LOG_LOSS: _log_loss,
}
"""What the test images contribute to the score, by metric."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestScores:
    """Test scores of one finalist or baseline.

    Attributes:
        metric: metric of the sweep.
        answers: its answers for the test images.
    """

    __test__ = False  # pytest would collect a class of this name

    metric: Metric
    answers: TestAnswers

    @property
    def repeats(self) -> NDArray[np.int64]:
        """(R,) numbers of the repeats, ascending."""
        return self.answers.repeats

    def outcomes(self, repeats: NDArray[np.int64], images: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some repeats for the images in a mask."""
        return OUTCOMES[self.metric](self.answers.of(repeats, images))

    def interval(self) -> Interval | None:
        """Return the test score with its interval; None if no image is in all repeats."""
        seen = seen_in_all([self], self.repeats)
        return score_interval(self.outcomes(self.repeats, seen)) if seen.any() else None

    def accuracy(self) -> float:
        """Return the share of right answers, on the images of `interval`."""
        return float(_right(self.answers)[:, seen_in_all([self], self.repeats)].mean())

    def minus(self, other: TestScores) -> Interval | None:
        """Return the paired difference to `other`; None if they share no repeat or image."""
        repeats = np.intersect1d(self.repeats, other.repeats)
        seen = seen_in_all([self, other], repeats)
        if not repeats.size or not seen.any():
            return None
        return difference_interval(self.outcomes(repeats, seen), other.outcomes(repeats, seen))


def seen_in_all(scores: Sequence[TestScores], repeats: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (I,) whether all of these have an answer for the image in all of these repeats."""
    known = [one.answers.known[np.searchsorted(one.repeats, repeats)] for one in scores]
    return np.asarray(np.concatenate(known).all(axis=0))


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
    label, names = _codes(predictions["label"])
    repeat = predictions["repeat"].to_numpy()
    num_repeats = int(repeat.max()) + 1
    groups, group = np.unique(trial * num_repeats + repeat, return_inverse=True)
    shape = len(groups), len(image_ids)
    columns = _Columns.read(predictions, (group, image), shape=shape, names=names, metric=metric)
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
            answers=columns.answers(
                [position for _, position in found],
                repeats=np.array([number for number, _ in found], dtype=np.int64),
                labels=labels,
            ),
        )
        for trial_id, found in members.items()
    }


@dataclass(frozen=True, eq=False)
class _Columns:
    """The columns of `predictions` as (G, I) arrays, per group of rows and image.

    A group is one repeat of one trial; the attributes are those of `TestAnswers`.
    """

    known: NDArray[np.bool_]
    predicted: NDArray[np.int64]
    label_probability: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None

    @classmethod
    def read(
        cls,
        predictions: pa.Table,
        places: tuple[NDArray[np.int64], NDArray[np.int64]],
        *,
        shape: tuple[int, int],
        names: Sequence[str],
        metric: Metric,
    ) -> _Columns:
        """Read the columns that a metric needs.

        Args:
            predictions: (M,) rows.
            places: (M,) groups and (M,) images of the rows.
            shape: numbers of groups and images.
            names: of the classes of the images, by class id.
            metric: the metric.
        """
        known = np.zeros(shape, dtype=np.bool_)
        predicted = np.full(shape, len(names))
        label_probability = np.full(shape, np.nan)
        probabilities = None
        known[places] = True
        # A class that no test image has is none of the others, and so is no answer.
        found = pc.index_in(predictions["predicted"], value_set=pa.array(names, pa.string()))
        predicted[places] = pc.fill_null(found, len(names)).to_numpy()
        if metric is Metric.LOG_LOSS:
            given = pc.fill_null(predictions["label_probability"], np.nan).to_numpy()
            label_probability[places] = given
            known[places] = ~np.isnan(given)
        if metric.needs_all_probabilities:
            complete, rows = _all_probabilities(predictions, names)
            probabilities = np.full((*shape, len(names)), np.nan, dtype=np.float32)
            probabilities[places[0][complete], places[1][complete]] = rows
            known[places] = complete
        return cls(known, predicted, label_probability, probabilities)

    def answers(self, groups: Sequence[int], **others: NDArray[np.int64]) -> TestAnswers:
        """Return the answers of these groups, which are repeats of one trial."""
        of_all = self.probabilities
        return TestAnswers(
            known=self.known[groups],
            predicted=self.predicted[groups],
            label_probability=self.label_probability[groups],
            probabilities=None if of_all is None else of_all[groups],
            **others,
        )


def _all_probabilities(
    predictions: pa.Table, names: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return (M,) whether a row has the probabilities of all classes, and (K, C) those of these."""
    column = predictions["probabilities"].combine_chunks()
    complete = np.asarray(column.is_valid())
    present = column.drop_null()
    rows, pairs = pc.list_parent_indices(present).to_numpy(), pc.list_flatten(present)
    places = pc.index_in(pairs.field("class"), value_set=pa.array(names, pa.string()))
    wanted = np.asarray(places.is_valid())
    found = np.zeros((len(present), len(names)), dtype=np.float32)
    probabilities = pairs.field("probability").to_numpy()
    found[rows[wanted], places.drop_null().to_numpy()] = probabilities[wanted]
    return complete, found


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
