"""Scores of finalists and baselines on the test set, by the metric of their sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.recording.class_answers import read_class_answers
from orchestrator.recording.codes import codes
from orchestrator.recording.mask_answers import read_mask_answers
from orchestrator.recording.statistics.intervals import (
    Interval,
    difference_interval,
    score_interval,
)
from orchestrator.recording.statistics.outcomes import Outcomes
from trainable.spec.metrics import Metric


class TestAnswers(Protocol):
    """Answers of one finalist or baseline for the test images of its sweep."""

    @property
    def repeats(self) -> NDArray[np.int64]:
        """(R,) numbers of the repeats, ascending."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """(R, I) whether there is an answer that can be scored."""

    def of(self, repeats: NDArray[np.int64], images: NDArray[np.bool_]) -> Self:
        """Return the answers of some repeats, which it has, for the images in a mask."""

    def outcomes(self, metric: Metric) -> Outcomes:
        """Return what the test images contribute to a metric."""

    def accuracy(self) -> float | None:
        """Return the share of right answers; None where an image has no class of its own."""


Reader = Callable[[Sequence[int], NDArray[np.int64]], TestAnswers]
"""Takes (R,) groups of rows of `predictions`, which are the repeats of one trial, and the (R,)
numbers of these repeats; returns their answers."""


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
        return self.answers.of(repeats, images).outcomes(self.metric)

    def interval(self) -> Interval | None:
        """Return the test score with its interval; None if no image is in all repeats."""
        seen = seen_in_all([self], self.repeats)
        return score_interval(self.outcomes(self.repeats, seen)) if seen.any() else None

    def accuracy(self) -> float | None:
        """Return the share of right answers, on the images of `interval`; None without classes."""
        return self.answers.of(self.repeats, seen_in_all([self], self.repeats)).accuracy()

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
    trial, trial_ids = codes(predictions["trial_id"])
    image, image_ids = codes(predictions["image_id"])
    repeat = predictions["repeat"].to_numpy()
    num_repeats = int(repeat.max()) + 1
    groups, group = np.unique(trial * num_repeats + repeat, return_inverse=True)
    # A row without counts of pixels has a class.
    are_masks = predictions["pixels"].null_count < predictions.num_rows
    open_reader: Callable[..., Reader] = read_mask_answers if are_masks else read_class_answers
    read = open_reader(
        predictions, (group, image), shape=(len(groups), len(image_ids)), metric=metric
    )
    wanted = set(zip(finals["trial_id"].to_pylist(), finals["repeat"].to_pylist(), strict=True))
    members: dict[str, list[tuple[int, int]]] = {}
    for position, code in enumerate(groups):
        trial_id, number = trial_ids[code // num_repeats], int(code % num_repeats)
        if (trial_id, number) in wanted:
            members.setdefault(trial_id, []).append((number, position))
    return {
        trial_id: TestScores(
            metric=metric,
            answers=read(
                [position for _, position in found],
                np.array([number for number, _ in found], dtype=np.int64),
            ),
        )
        for trial_id, found in members.items()
    }
