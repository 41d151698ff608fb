"""Predicted classes of finalists and baselines, read back from the table `predictions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.recording.codes import codes
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
class ClassAnswers:
    """Predicted classes of one finalist or baseline; see `TestAnswers`.

    Attributes:
        repeats: (R,) numbers of the repeats, ascending.
        known: (R, I) whether there is an answer that can be scored.
        predicted: (R, I) class ids.
        label_probability: (R, I) float64 of the true class; NaN if it is unknown.
        probabilities: (R, I, C) float32 of all classes; None if the metric does not need them.
        labels: (I,) class ids of the images.
    """

    repeats: NDArray[np.int64]
    known: NDArray[np.bool_]
    predicted: NDArray[np.int64]
    label_probability: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    labels: NDArray[np.int64]

    def of(self, repeats: NDArray[np.int64], images: NDArray[np.bool_]) -> ClassAnswers:
        """Return the answers of some repeats, which it has, for the images in a mask."""
        rows = np.searchsorted(self.repeats, repeats)
        of_all = self.probabilities
        return ClassAnswers(
            repeats=repeats,
            known=self.known[rows][:, images],
            predicted=self.predicted[rows][:, images],
            label_probability=self.label_probability[rows][:, images],
            probabilities=None if of_all is None else of_all[rows][:, images],
            labels=self.labels[images],
        )

    def outcomes(self, metric: Metric) -> Outcomes:
        """See `TestAnswers`."""
        return OUTCOMES[metric](self)

    def accuracy(self) -> float:
        """See `TestAnswers`."""
        return float(_right(self).mean())


def _right(answers: ClassAnswers) -> NDArray[np.bool_]:
    return np.asarray(answers.predicted == answers.labels)


def _log_loss(answers: ClassAnswers) -> Outcomes:
    losses = -np.log(np.maximum(answers.label_probability, _SMALLEST_PROBABILITY))
    return mean_outcomes(losses, scale=Scale.LOSS)


def _auroc(answers: ClassAnswers) -> Outcomes:
    assert answers.probabilities is not None  # `known` is false without
    return auroc_outcomes(answers.probabilities, answers.labels)


OUTCOMES: Mapping[Metric, Callable[[ClassAnswers], Outcomes]] = {
    Metric.ACCURACY: lambda answers: mean_outcomes(_right(answers)),
    Metric.BALANCED_ACCURACY: lambda answers: class_mean_outcomes(_right(answers), answers.labels),
    Metric.MACRO_F1: lambda answers: macro_f1_outcomes(answers.predicted, answers.labels),
    Metric.AUROC: _auroc,
    Metric.LOG_LOSS: _log_loss,
}
"""What the test images contribute to the score, by metric."""


@dataclass(frozen=True, eq=False)
class _Columns:
    """The columns of `predictions` as (G, I) arrays, per group of rows and image.

    A group is one repeat of one trial; the attributes are those of `ClassAnswers`.
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

    def answers(self, groups: Sequence[int], **others: NDArray[np.int64]) -> ClassAnswers:
        """Return the answers of these groups, which are repeats of one trial."""
        of_all = self.probabilities
        return ClassAnswers(
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


def read_class_answers(
    predictions: pa.Table,
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    shape: tuple[int, int],
    metric: Metric,
) -> Callable[[Sequence[int], NDArray[np.int64]], ClassAnswers]:
    """Return a function that takes groups of rows, and the repeats that they are; see `Reader`."""
    label, names = codes(predictions["label"])
    columns = _Columns.read(predictions, places, shape=shape, names=names, metric=metric)
    labels = np.zeros(shape[1], dtype=np.int64)
    labels[places[1]] = label

    def answers(groups: Sequence[int], repeats: NDArray[np.int64]) -> ClassAnswers:
        return columns.answers(groups, repeats=repeats, labels=labels)

    return answers
