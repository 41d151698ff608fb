"""Outcomes of test examples: what each of them contributes to a score, in every repeat.

A score need not be a mean over examples. Its leave-one-out pseudo-values (Tukey 1958, Annals of
Mathematical Statistics 29:614) make it one: with N examples, the pseudo-value of an example is N
times the score minus N - 1 times the score without it. For a mean over examples the pseudo-values
are the values themselves, so accuracy is no special case.

Which classes are averaged is a fact of the whole test set and stays as it is when an example is
left out: the only example of a class is never left out, and its pseudo-value is the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]

_ROUNDING = 1e-9
"""Tolerance for values outside their range."""


class Scale(Enum):
    """The range of a score: (lowest, highest) value."""

    SHARE = (0.0, 1.0)
    LOSS = (0.0, math.inf)

    @property
    def width(self) -> float:
        """Highest minus lowest value."""
        low, high = self.value
        return high - low


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes of the same N examples in R repeats.

    Attributes:
        pseudo: (R, N) pseudo-values, shifted so that their mean over examples is the score of the
            repeat; unshifted it differs by a bias of order 1/N if the score is not linear.
        values: (R, N) what an example by itself contributes to the mean of its class, such as 0
            (wrong) and 1 (right).
        classes: (N,) class ids where the score is a mean over classes; None for a mean over
            examples.
        scale: range of the score.
        of_pixels: whether an example is scored on many pixels; see `intervals`.
    """

    pseudo: Floats
    values: Floats
    classes: Classes | None
    scale: Scale
    of_pixels: bool = False

    @property
    def scores(self) -> Floats:
        """(R,) score of each repeat."""
        return np.asarray(self.pseudo.mean(axis=1))

    @property
    def is_valid(self) -> bool:
        """Whether there is a value, and all of them are finite numbers of the range."""
        low, high = self.scale.value
        inside = (
            np.isfinite(self.values)
            & (self.values >= low - _ROUNDING)
            & (self.values <= high + _ROUNDING)
        )
        return self.values.ndim == 2 and self.values.size > 0 and bool(inside.all())

    def mixed(self, other: Outcomes, share: float) -> Outcomes:
        """The outcomes a share of the way to those of another score of the same examples."""
        return replace(
            self,
            pseudo=(1 - share) * self.pseudo + share * other.pseudo,
            values=(1 - share) * self.values + share * other.values,
        )


def averaged(several: Sequence[Outcomes]) -> Outcomes:
    """The means of outcomes of the same examples and repeats."""
    return replace(
        several[0],
        pseudo=np.mean([one.pseudo for one in several], axis=0),
        values=np.mean([one.values for one in several], axis=0),
    )


def mean_outcomes(values: NDArray[np.generic], *, scale: Scale = Scale.SHARE) -> Outcomes:
    """Outcomes of a mean over examples, such as accuracy or log loss.

    Args:
        values: (R, N) values.
        scale: their range.
    """
    found = np.asarray(values, dtype=np.float64)
    return Outcomes(found, found, None, scale)


def ratio_outcomes(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> Outcomes:
    """Outcomes of a ratio of sums over examples, such as the share of pixels that are right.

    Args:
        parts: (R, N) numerator of each example.
        wholes: (R, N) denominator of each example, at least 1.
    """
    part, whole = (one.sum(axis=1, keepdims=True) for one in (parts, wholes))
    score = part / whole
    without = (part - parts) / np.maximum(whole - wholes, 1)
    changes = np.where(whole > wholes, without - score, 0.0)
    deviations = -(parts.shape[1] - 1) * changes
    deviations -= deviations.mean(axis=1, keepdims=True)
    return Outcomes(score + deviations, parts / wholes, None, Scale.SHARE)


def class_mean_outcomes(values: NDArray[np.generic], classes: Classes) -> Outcomes:
    """Outcomes of a mean over the means of the classes, such as balanced accuracy.

    With K classes, and n_c examples of mean r_c in class c, leaving out example i of class c
    changes the score by (r_c - x_i) / (K (n_c - 1)).

    Args:
        values: (R, N) shares, such as 0 (wrong) and 1 (right).
        classes: (N,) class ids.
    """
    found = np.asarray(values, dtype=np.float64)
    _, of_example, counts = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(of_example, weights=line) for line in found]) / counts
    weights = (len(classes) - 1) / (len(counts) * np.maximum(counts - 1, 1))
    deviations: Floats = (found - means[:, of_example]) * weights[of_example]
    return Outcomes(means.mean(axis=1, keepdims=True) + deviations, found, classes, Scale.SHARE)


def macro_f1_outcomes(predicted: NDArray[np.int64], classes: Classes) -> Outcomes:
    """Outcomes of the mean F1 score of classes; see `macro_f1` of `tasks.classification.scores`.

    Leaving out an example changes the terms of its own class and of the predicted one alone, so the
    score without it depends on these two classes.

    Args:
        predicted: (R, N) class ids.
        classes: (N,) class ids of the same numbering.
    """
    num_classes = int(max(predicted.max(), classes.max())) + 1
    counted = np.bincount(classes, minlength=num_classes).astype(np.float64)
    present = counted > 0
    lines = []
    for line in predicted:
        found = np.bincount(classes[line == classes], minlength=num_classes).astype(np.float64)
        total = counted + np.bincount(line, minlength=num_classes)
        f1 = np.where(present, 2 * found / np.maximum(total, 1), 0.0)
        # An example of a class that has others: with it, its class loses one from `counted`, the
        # predicted class one from those predicted; a right one loses both and a true positive.
        one_less = np.where(present, 2 * found / np.maximum(total - 1, 1), 0.0) - f1
        right = np.where(present, 2 * (found - 1) / np.maximum(total - 2, 1), 0.0) - f1
        change = np.where(line == classes, right[classes], one_less[classes] + one_less[line])
        change = np.where(counted[classes] > 1, change, 0.0) / present.sum()
        deviations = -(len(classes) - 1) * change
        lines.append(f1.sum() / present.sum() + deviations - deviations.mean())
    right = (predicted == classes).astype(np.float64)
    return Outcomes(np.stack(lines), right, classes, Scale.SHARE)


def auroc_outcomes(probabilities: NDArray[np.floating], classes: Classes) -> Outcomes:
    """Outcomes of the mean area under the ROC curve; see `auroc` of `tasks.classification.scores`.

    The area of a class is a mean over pairs of one of its examples and one of another class, so
    leaving out an example takes its pairs away (DeLong et al. 1988, Biometrics 44:837).

    Args:
        probabilities: (R, N, C) of all classes.
        classes: (N,) class ids.
    """
    kinds, counts = np.unique(classes, return_counts=True)
    shape = probabilities.shape[:2]
    if len(kinds) == 1:
        half = np.full(shape, 0.5)
        return Outcomes(half, half, classes, Scale.SHARE)
    deviations, values, score = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 1))
    for kind, count in zip(kinds, counts, strict=True):
        members = classes == kind
        others = shape[1] - count
        for repeat, given in enumerate(probabilities[:, :, kind].astype(np.float64)):
            of_members = _shares_below(given[members], given[~members])
            of_others = 1 - _shares_below(given[~members], given[members])
            area = of_members.mean()
            score[repeat] += area
            values[repeat, members] = of_members
            # Without example i of n of a kind, with share s_i: (n area - s_i) / (n - 1).
            deviations[repeat, members] += (of_members - area) / max(count - 1, 1)
            deviations[repeat, ~members] += (of_others - area) / max(others - 1, 1)
    deviations *= (shape[1] - 1) / len(kinds)
    deviations[:, np.isin(classes, kinds[counts == 1])] = 0.0
    deviations -= deviations.mean(axis=1, keepdims=True)
    return Outcomes(score / len(kinds) + deviations, values, classes, Scale.SHARE)


def miou_outcomes(counts: NDArray[np.int64]) -> Outcomes:
    """Outcomes of the mean intersection over union of the classes of masks.

    Counts of images add up, so the score without an image is that of the other images. The classes
    are those that the true masks of all images hold; the term of a class that one image alone holds
    stays as it is when that image is left out.

    Args:
        counts: (R, N, C, 3) pixels of each class: rightly predicted, true, and predicted. Images
            without a pixel that has a class are left out before.
    """
    total = counts.sum(axis=1, keepdims=True)
    present = total[:, :, :, 1] > 0
    whole = _iou(total)
    others = total - counts
    without = np.where(others[..., 1] > 0, _iou(others), whole)
    number = present.sum(axis=2)
    score = np.where(present, whole, 0).sum(axis=2) / number
    changes = np.where(present, without - whole, 0).sum(axis=2) / number
    deviations = -(counts.shape[1] - 1) * changes
    deviations -= deviations.mean(axis=1, keepdims=True)
    own = counts[..., 1] > 0
    values = np.where(own, _iou(counts), 0).sum(axis=2) / own.sum(axis=2)
    return Outcomes(score + deviations, values, None, Scale.SHARE)


def _iou(counts: NDArray[np.int64]) -> Floats:
    """Intersection over union from (..., 3) counts; 0 where there is neither."""
    found, true, given = np.moveaxis(counts, -1, 0)
    return np.asarray(found / np.maximum(true + given - found, 1))


def _shares_below(values: Floats, others: Floats) -> Floats:
    """(M,) share of `others` that each of (M,) values exceeds; a tie counts half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values)
    up_to = np.searchsorted(ordered, values, side="right")
    return np.asarray((below + up_to) / (2 * len(others)))
