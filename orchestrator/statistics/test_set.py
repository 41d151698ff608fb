"""What a sweep's test set can tell: its size, and what guessing would reach on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_DISAGREEMENT = 0.1


@dataclass(frozen=True)
class TestSet:
    """The images that finalists and baselines are scored on.

    Attributes:
        num_images: how many.
        chance: expected accuracy of guessing one of the classes at random.
        majority: accuracy of always guessing the commonest class.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    num_images: int
    chance: float
    majority: float

    @classmethod
    def of(cls, counts: Sequence[int], *, num_classes: int) -> TestSet:
        """The test set with so many images of each class that it has; at least one."""
        return cls(
            num_images=sum(counts), chance=1 / num_classes, majority=max(counts) / sum(counts)
        )

    @property
    def smallest_difference(self) -> float:
        """Difference in accuracy of two configurations that its images can just tell apart.

        That of a paired comparison at 95 % where the two disagree on one image in ten: the d that
        is 1.96 standard errors, d^2 = 1.96^2 (1/10 - d^2) / n. Repeats make it larger.
        """
        z = 1.96
        return min(1.0, math.sqrt(_DISAGREEMENT * z**2 / (self.num_images + z**2)))

    @property
    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.num_images} test image{'' if self.num_images == 1 else 's'}; guessing reaches "
            f"{100 * self.chance:.1f} %, always the commonest class {100 * self.majority:.1f} %"
        )


def find_test_set(trials: pa.Table, predictions: pa.Table) -> TestSet | None:
    """The test set of a sweep, from one repeat of one of its trials; None where none has any.

    Args:
        trials: of one sweep, by `SCHEMAS`.
        predictions: of the same sweep.
    """
    if not predictions.num_rows:
        return None
    trial_id, repeat = predictions["trial_id"][0], predictions["repeat"][0]
    one = predictions.filter(
        pc.and_(
            pc.equal(predictions["trial_id"], trial_id), pc.equal(predictions["repeat"], repeat)
        )
    )
    counts = pc.value_counts(one["label"].combine_chunks()).field("counts").to_pylist()
    classes = [number for number in trials["num_classes"].to_pylist() if number is not None]
    num_classes = max(classes, default=len(counts))
    return TestSet.of(counts, num_classes=num_classes)
