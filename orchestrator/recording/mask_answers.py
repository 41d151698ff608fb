"""Predicted masks of finalists and baselines, read back from the table `predictions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.recording.statistics.outcomes import (
    Outcomes,
    Scale,
    mean_outcomes,
    miou_outcomes,
    ratio_outcomes,
)
from trainable.spec.metrics import Metric

COUNTS = ("found", "labelled", "predicted")
"""What is counted of the pixels of a class, by the fields of the column `pixels`."""

FOUND, LABELLED, PREDICTED = range(len(COUNTS))


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskAnswers:
    """Predicted masks of one finalist or baseline; see `TestAnswers`.

    Attributes:
        repeats: (R,) numbers of the repeats, ascending.
        known: (R, I) whether there is an answer that can be scored.
        pixels: (R, I, C, 3) pixels of each class: rightly predicted, true, and predicted.
        losses: (R, I) mean negative log-probability of a pixel's class.
    """

    repeats: NDArray[np.int64]
    known: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    losses: NDArray[np.float64]

    def of(self, repeats: NDArray[np.int64], images: NDArray[np.bool_]) -> MaskAnswers:
        """See `TestAnswers`."""
        rows = np.searchsorted(self.repeats, repeats)
        return MaskAnswers(
            repeats=repeats,
            known=self.known[rows][:, images],
            pixels=self.pixels[rows][:, images],
            losses=self.losses[rows][:, images],
        )

    def outcomes(self, metric: Metric) -> Outcomes:
        """See `TestAnswers`."""
        return replace(_OUTCOMES[metric](self), of_pixels=True)

    def accuracy(self) -> None:
        """See `TestAnswers`."""


_OUTCOMES: Mapping[Metric, Callable[[MaskAnswers], Outcomes]] = {
    Metric.MIOU: lambda answers: miou_outcomes(answers.pixels),
    Metric.PIXEL_ACCURACY: lambda answers: ratio_outcomes(
        answers.pixels[..., FOUND].sum(axis=2), answers.pixels[..., LABELLED].sum(axis=2)
    ),
    Metric.LOG_LOSS: lambda answers: mean_outcomes(answers.losses, scale=Scale.LOSS),
}
"""What the test images contribute to the score, by metric."""


def read_mask_answers(
    predictions: pa.Table,
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    shape: tuple[int, int],
    metric: Metric,
) -> Callable[[Sequence[int], NDArray[np.int64]], MaskAnswers]:
    """Return a function that takes groups of rows, and the repeats that they are; see `Reader`."""
    del metric
    counts, _ = pixel_counts(predictions)
    pixels = np.zeros((*shape, *counts.shape[1:]), dtype=np.int64)
    pixels[places] = counts
    losses = np.full(shape, np.nan)
    losses[places] = pc.fill_null(predictions["log_loss"], np.nan).to_numpy()
    known = np.zeros(shape, dtype=np.bool_)
    known[places] = counts[:, :, LABELLED].sum(axis=1) > 0

    def answers(groups: Sequence[int], repeats: NDArray[np.int64]) -> MaskAnswers:
        return MaskAnswers(
            repeats=repeats, known=known[groups], pixels=pixels[groups], losses=losses[groups]
        )

    return answers


def pixel_counts(predictions: pa.Table) -> tuple[NDArray[np.int64], list[str]]:
    """Return (M, C, 3) pixels of each row and class, and the C names of the classes, sorted.

    Args:
        predictions: M rows of `predictions`; a row without counts has zeros.
    """
    column = predictions["pixels"].combine_chunks()
    rows, entries = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
    names = sorted(pc.unique(entries.field("class")).to_pylist())
    classes = pc.index_in(entries.field("class"), value_set=pa.array(names, pa.string()))
    counts = np.zeros((len(column), len(names), len(COUNTS)), dtype=np.int64)
    for number, name in enumerate(COUNTS):
        counts[rows, classes.to_numpy(), number] = entries.field(name).to_numpy()
    return counts, names
