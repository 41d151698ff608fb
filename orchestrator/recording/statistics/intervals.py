"""Confidence intervals for test scores that vary with the draw of labels and with the test images.

A test score is a mean over R repeats (fresh draws of the labelled subset), each scored on the same
N test images. The score varies with the draw and with the test images, so both count: with repeat
means a_r and image means b_i the variance of the score is estimated as

    s2(a_1 .. a_R) / R + s2(b_1 .. b_N) / N

This is the two-way clustered variance without the term that is subtracted for the variance of
single cells (Cameron, Gelbach and Miller 2011, J. Business & Economic Statistics 29:238; for
crossed random effects Owen 2007, Annals of Applied Statistics 1:386). It is slightly too large and
never negative. Degrees of freedom follow Satterthwaite (1946, Biometrics Bulletin 2:110). These are
too many where few draws make up most of the variance. For scores of single answers the excess of
the variance makes good for it. The mean over the pixels of a mask leaves next to no excess, so
scores of masks take the quantile of Cochran and Cox (1950, Experimental Designs, section 4.14): the
mean of Student's quantiles of R - 1 and of N - 1 degrees of freedom, weighted with the variances.

The means are those of leave-one-image-out pseudo-values, so that scores that are no mean over
images have intervals of the same kind; see `orchestrator.recording.statistics.outcomes`.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.recording.statistics.outcomes import Outcomes, Scale

CONFIDENCE = 0.95
"""Nominal coverage of the intervals."""

_QUANTILE = (1 + CONFIDENCE) / 2
_Z2 = NormalDist().inv_cdf(_QUANTILE) ** 2
_NO_VARIANCE = 1e-24
"""Variances up to this are rounding errors and count as zero."""


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether zero lies in the interval."""
        return self.low <= 0 <= self.high

    @property
    def negated(self) -> Interval:
        """The interval of the opposite difference."""
        return Interval(-self.mean, -self.high, -self.low)


def score_interval(outcomes: Outcomes) -> Interval:
    """The mean score with its confidence interval over new label draws and new test images.

    The interval of a fraction is symmetric on the logit scale (Brown, Cai and DasGupta 2001,
    Statistical Science 16:101), that of a loss on the log scale; both stay inside the range. The
    plain t interval ignores the skew near the end of the range: with five widely spread repeats it
    covered a true accuracy near 1 in as few as 89 of 100 simulated sweeps, and a true log loss in
    as few as 90.

    With one repeat the variance over draws is unknown and left out: the interval then holds for
    that draw alone. With one image the variance over images is left out likewise.

    Args:
        outcomes: of the test images in every repeat.

    Raises:
        ValueError: there are none, or a value lies outside the range.
    """
    from scipy.special import expit, logit  # slow to import; no trial needs it

    _check(outcomes)
    scale, num_images = outcomes.scale, outcomes.pseudo.shape[1]
    mean = low = high = float(outcomes.pseudo.mean())
    unseen = _unseen_variance(outcomes.values, outcomes.classes, scale.width)
    half = _half_width(outcomes.pseudo, unseen, of_pixels=outcomes.of_pixels)
    if scale is Scale.LOSS:
        shift = half / mean if mean > 0 else 0.0
        return Interval(mean, mean * math.exp(-shift), mean * math.exp(shift))
    if 0 < mean < 1:
        shift = half / (mean * (1 - mean))
        low, high = (float(expit(logit(mean) + sign * shift)) for sign in (-1, 1))
    open_share = _open_share(num_images, outcomes.classes)
    return Interval(mean, min(low, 1 - open_share), max(high, open_share))


def difference_interval(outcomes: Outcomes, other: Outcomes) -> Interval:
    """The score of `outcomes` minus that of `other`, paired by repeat and image.

    Effects common to both (a lucky draw, a hard image) cancel, so this interval is narrower than
    the two separate intervals suggest. If all outcomes are equal, the difference is exactly zero.

    Args:
        outcomes: of the test images in every repeat.
        other: of the same repeats and images in the same order, by the same metric.

    Raises:
        ValueError: the shapes differ, or see `score_interval`.
    """
    if outcomes.pseudo.shape != other.pseudo.shape:
        raise ValueError(
            f"paired values: got shapes {outcomes.pseudo.shape} and {other.pseudo.shape}"
        )
    _check(outcomes)
    _check(other)
    scale, classes, num_images = outcomes.scale, outcomes.classes, outcomes.pseudo.shape[1]
    values, pseudo = outcomes.values - other.values, outcomes.pseudo - other.pseudo
    if not values.any() and not pseudo.any():
        return Interval(0.0, 0.0, 0.0)
    mean = float(pseudo.mean())
    unseen = _unseen_variance(values, classes, 2 * scale.width)
    half = _half_width(pseudo, unseen, of_pixels=outcomes.of_pixels)
    limit = 1 - 2 * _open_share(num_images, classes) if scale is Scale.SHARE else math.inf
    low = max(-scale.width, min(mean - half, limit))
    return Interval(mean, low, min(scale.width, max(mean + half, -limit)))


def separate_difference(interval: Interval, other: Interval) -> Interval:
    """The difference of two means, from their intervals alone.

    Square-and-add (Newcombe 1998, Statistics in Medicine 17:873, method 10). It assumes that the
    two are independent; if they share test images, the interval is too wide rather than too narrow.
    """
    mean = interval.mean - other.mean
    return Interval(
        mean,
        mean - math.hypot(interval.mean - interval.low, other.high - other.mean),
        mean + math.hypot(interval.high - interval.mean, other.mean - other.low),
    )


def _check(outcomes: Outcomes) -> None:
    """Refuse outcomes that are not what they should be.

    Raises:
        ValueError: there are none, or a value lies outside the range.
    """
    if not outcomes.is_valid:
        low, high = outcomes.scale.value
        raise ValueError(
            f"values: got shape {outcomes.values.shape}; allowed: (R, N) numbers from {low:g} to "
            f"{high:g}"
        )


def _unseen_variance(
    values: NDArray[np.float64], classes: NDArray[np.int64] | None, width: float
) -> float:
    """Variance of a mean over classes that the sample variance of small classes misses.

    A class of two correct images has a sample variance of zero, although its true variance is not.
    So a class counts as if it had one more image, with the pooled within-class variance, if that
    exceeds its own sample variance. The variance of a class with one image is unknown; the largest
    possible one is used, width^2 / 4 (Popoviciu 1935, Mathematica 9:129).

    Args:
        values: (R, N) float64 per repeat and image.
        classes: (N,) int64 class ids; None for a mean over images, which needs no such term.
        width: highest minus lowest possible value.
    """
    if classes is None:
        return 0.0
    _, of_image, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    images, num_images = values.mean(axis=0), len(classes)
    centred = images - (np.bincount(of_image, weights=images) / sizes)[of_image]
    squares = np.bincount(of_image, weights=centred**2)
    within = squares.sum() / max(1, num_images - len(sizes))
    others = np.maximum(sizes - 1, 1)
    seen = (num_images - 1) / num_images * squares / others**2
    least = np.where(sizes == 1, width**2 / 4, (squares + within) / sizes**2)
    return float(np.maximum(least - seen, 0.0).sum() / len(sizes) ** 2)


def _open_share(num_images: int, classes: NDArray[np.int64] | None) -> float:
    """Upper confidence limit of the error rate when all N answers are right.

    A sample variance of zero is no certainty, so the upper end of an interval is never below this
    limit and the lower end never above one minus it. The limit is that of the score interval
    (Wilson 1927, J. American Statistical Association 22:209), close to the "rule of three" (Hanley
    and Lippman-Hand 1983, JAMA 249:1743). Repeats do not count: they share their images. A mean
    over K classes of n_c images each has the variance of a mean over K^2 / sum(1 / n_c) images.
    """
    worth = float(num_images)
    if classes is not None:
        sizes = np.unique(classes, return_counts=True)[1]
        worth = float(len(sizes) ** 2 / (1 / sizes).sum())
    return _Z2 / (worth + _Z2)


def _half_width(pseudo: NDArray[np.float64], unseen: float, *, of_pixels: bool) -> float:
    """Half the width of the t interval of the mean; 0 if all values are equal.

    Args:
        pseudo: (R, N) pseudo-values per repeat and image.
        unseen: added to the variance over images; see `_unseen_variance`.
        of_pixels: see `Outcomes`.
    """
    from scipy.special import stdtrit

    of_repeats = _variance_of_mean(pseudo.mean(axis=1))
    of_images = _variance_of_mean(pseudo.mean(axis=0)) + unseen
    freedoms = [max(1, number - 1) for number in pseudo.shape]
    variance = of_repeats + of_images
    if variance <= _NO_VARIANCE:
        # If values differ only within repeats and images, as in a Latin square, all means are
        # equal. The variance of the cells over N is then an upper bound: that of identical repeats.
        variance = float(pseudo.var()) / pseudo.shape[1]
        quantile = stdtrit(freedoms[1], _QUANTILE)
    elif of_pixels:
        quantiles = stdtrit(freedoms, _QUANTILE)
        quantile = np.average(quantiles, weights=[of_repeats, of_images])
    else:
        squares = of_repeats**2 / freedoms[0] + of_images**2 / freedoms[1]
        quantile = stdtrit(variance**2 / squares, _QUANTILE)
    return float(quantile) * math.sqrt(variance)


def _variance_of_mean(means: NDArray[np.float64]) -> float:
    """s2 / n of n means; 0 for a single one, whose variance is unknown."""
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0
