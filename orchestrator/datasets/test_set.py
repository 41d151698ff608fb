"""The test set of a sweep: its size, the accuracy of guessing, and its resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_DISAGREEMENT = 0.1
"""Assumed fraction of test images on which the predictions of two configurations differ."""


@dataclass(frozen=True)
class TestSet:
    """The images that finalists and baselines are scored on.

    Attributes:
        num_images: number of test images.
        chance: expected accuracy of guessing one of the classes at random; None for masks.
        majority: accuracy of always guessing the commonest class; None for masks.
    """

    __test__ = False  # pytest would collect a class of this name

    num_images: int
    chance: float | None = None
    majority: float | None = None

    @classmethod
    def of(cls, counts: Sequence[int], *, num_classes: int) -> TestSet:
        """The test set with these numbers of images per class.

        Args:
            counts: images of each class that occurs; at least one class.
            num_classes: classes of the dataset, those without a test image included.
        """
        return cls(
            num_images=sum(counts), chance=1 / num_classes, majority=max(counts) / sum(counts)
        )

    @property
    def smallest_difference(self) -> float:
        """The smallest difference in accuracy that this test set can resolve, in 0..1.

        In a paired comparison of two configurations that disagree on one image in ten, this
        difference d equals 1.96 standard errors: d^2 = 1.96^2 (1/10 - d^2) / n. Variance between
        repeats makes the smallest difference larger.
        """
        z = 1.96
        return min(1.0, math.sqrt(_DISAGREEMENT * z**2 / (self.num_images + z**2)))

    def described(self, noun: str) -> str:
        """One line that describes the test set.

        Args:
            noun: word for one example, such as `image`.
        """
        images = f"{self.num_images} test {noun}{'' if self.num_images == 1 else 's'}"
        if self.chance is None or self.majority is None:
            return images
        return (
            f"{images}; guessing reaches {100 * self.chance:.1f} %, always the commonest class "
            f"{100 * self.majority:.1f} %"
        )


def find_test_set(trials: pa.Table, predictions: pa.Table) -> TestSet | None:
    """The test set of a sweep, counted in one repeat of one trial; None without predictions.

    Args:
        trials: trials table of one sweep, at least its column `num_classes`.
        predictions: predictions table of the same sweep, at least its columns `trial_id`, `repeat`
            and `label`.
    """
    if not predictions.num_rows:
        return None
    trial_id, repeat = predictions["trial_id"][0], predictions["repeat"][0]
    one = predictions.filter(
        pc.and_(
            pc.equal(predictions["trial_id"], trial_id), pc.equal(predictions["repeat"], repeat)
        )
    )
    if one["label"].null_count == one.num_rows:
        return TestSet(one.num_rows)
    counts = pc.value_counts(one["label"].combine_chunks()).field("counts").to_pylist()
    classes = [number for number in trials["num_classes"].to_pylist() if number is not None]
    num_classes = max(classes, default=len(counts))
    return TestSet.of(counts, num_classes=num_classes)
