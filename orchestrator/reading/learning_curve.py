"""Inversion of a learning curve: from a test score to the number of labels that it takes.

Draws are nested (the same repeat adds labels to those it has), so the true score does not fall with
more labels. If the measured means fall, they are pooled by isotonic regression (Ayer et al.
1955, Annals of Mathematical Statistics 26:641). A running maximum would be monotone, too, but it
keeps upward outliers. Between budgets the score is interpolated linearly in the logarithm of the
labels; there is no extrapolation beyond the budgets.

The interval contains every number of labels at which the target lies within the confidence interval
of the score: a test turned into an interval (Fieller 1954, J. Royal Statistical Society B
16:175). That score is a weighted mean of the answers to the same images by the same repeats, so
`intervals` applies to it, including the variance of draws and of test images. A bootstrap over the
repeats would give intervals that are too narrow: there are usually five of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from orchestrator.recording.leaderboard import Row
from orchestrator.recording.statistics.intervals import score_interval
from orchestrator.recording.statistics.outcomes import Outcomes, averaged

_ROUNDING = 1e-12
"""Largest difference between scores that count as equal."""

_BISECTIONS = 40


class Place(StrEnum):
    """Where a number of labels lies relative to the measured budgets."""

    WITHIN = "within"
    SMALLEST = "smallest_budget_or_fewer"
    BEYOND = "beyond_largest_budget"


@dataclass(frozen=True)
class Labels:
    """A number of labels per class, as precise as the budgets allow.

    Attributes:
        place: between budgets, at or below the smallest one, or beyond the largest one.
        labels_per_class: the number; that of the smallest or largest budget if it lies outside.
    """

    place: Place
    labels_per_class: float

    @property
    def text(self) -> str:
        """Number in words."""
        number = f"{self.labels_per_class:.3g}"
        if self.place is Place.SMALLEST:
            return f"{number} or fewer"
        return f"more than {number}" if self.place is Place.BEYOND else number


@dataclass(frozen=True, eq=False)
class CurveAnswers:
    """Test answers at the K budgets of a learning curve, for the same images and repeats.

    Attributes:
        rows: K rows of the leaderboard, one per budget.
        repeats: numbers of the R repeats that all budgets have.
        outcomes: K outcomes of the N images that all of them predicted, of a share.
    """

    rows: list[Row]
    repeats: list[int]
    outcomes: list[Outcomes]

    @property
    def num_images(self) -> int:
        """N."""
        return int(self.outcomes[0].values.shape[1])

    def means(self) -> NDArray[np.float64]:
        """Return (K, R) scores per budget and repeat."""
        return np.stack([one.scores for one in self.outcomes])


def labels_at(
    aligned: CurveAnswers, labels: NDArray[np.float64], *, target: float
) -> tuple[Labels, Labels, Labels]:
    """Return the labels that a score takes, and the two ends of their 95 % interval.

    Args:
        aligned: answers at K budgets.
        labels: (K,) labels per class of each budget, ascending.
        target: score, 0..1.
    """
    fit = isotonic_regression(aligned.means().mean(axis=1))
    pooled = _pool(aligned.outcomes, fit.blocks)
    ends = [score_interval(outcomes) for outcomes in pooled]

    def meeting(name: str) -> Callable[[int], float]:
        """Return a function that finds where an end of the interval equals the target."""

        def share(before: int) -> float:
            below, above = 0.0, 1.0
            for _ in range(_BISECTIONS):
                middle = (below + above) / 2
                mixed = pooled[before].mixed(pooled[before + 1], middle)
                if getattr(score_interval(mixed), name) < target:
                    below = middle
                else:
                    above = middle
            return above

        return share

    possible = np.array([end.high for end in ends]) >= target - _ROUNDING
    certain = np.array([end.low for end in ends]) >= target - _ROUNDING
    certain = np.logical_and.accumulate(certain[::-1])[::-1]  # at this budget and all larger ones
    return (
        labels_of_means(fit.x, labels, target=target),
        _first(possible, labels, meeting("high")),
        _first(certain, labels, meeting("low")),
    )


def _pool(outcomes: Sequence[Outcomes], blocks: NDArray[np.int64]) -> list[Outcomes]:
    """Return the outcomes averaged over the neighbouring budgets of each block.

    Args:
        outcomes: K outcomes, one per budget.
        blocks: first budget of each block, then K.
    """
    return [
        pooled for a, b in pairwise(blocks) for pooled in [averaged(outcomes[a:b])] * int(b - a)
    ]


def labels_of_means(
    means: NDArray[np.float64], labels: NDArray[np.float64], *, target: float
) -> Labels:
    """Return the labels at which non-decreasing mean scores reach the target.

    Args:
        means: (K,) scores per budget, non-decreasing.
        labels: (K,) labels per class of each budget, ascending.
        target: score, 0..1.
    """

    def share(before: int) -> float:
        below, above = means[before], means[before + 1]
        return float(min(1.0, (target - below) / (above - below)))

    return _first(means >= target - _ROUNDING, labels, share)


def _first(
    reached: NDArray[np.bool_], labels: NDArray[np.float64], share: Callable[[int], float]
) -> Labels:
    """Return the fewest labels at which a condition holds.

    Args:
        reached: (K,) whether it holds at each budget.
        labels: (K,) labels per class of each budget, ascending.
        share: returns the share of the way from a budget to the next one, on the scale of log
            labels, at which the condition begins to hold; called for one budget.
    """
    if not reached.any():
        return Labels(Place.BEYOND, float(labels[-1]))
    first = int(reached.argmax())
    if first == 0:
        return Labels(Place.SMALLEST, float(labels[0]))
    way = share(first - 1)
    return Labels(Place.WITHIN, float(labels[first - 1] ** (1 - way) * labels[first] ** way))
