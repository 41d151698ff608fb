"""Confidence intervals for test scores that vary with the draw of labels and with the test images.

A test score is a mean over R repeats (fresh draws of the labelled subset), each scored on the same
N test images. The score varies with the draw and with the test images, so both count: with repeat
means a_r and image means b_i the variance of the score is estimated as

    s2(a_1 .. a_R) / R + s2(b_1 .. b_N) / N

This is the two-way clustered variance without the term that is subtracted for the variance of
single cells (Cameron, Gelbach and Miller 2011, J. Business & Economic Statistics 29:238; for
crossed random effects Owen 2007, Annals of Applied Statistics 1:386). It is slightly too large and
never negative. Degrees of freedom follow Satterthwaite (1946, Biometrics Bulletin 2:110).

The means are those of leave-one-image-out pseudo-values (Tukey 1958, Annals of Mathematical
Statistics 29:614). For a mean over images the pseudo-values are the values themselves; for a mean
over classes (balanced accuracy) an image weighs more the fewer images its class has.
"""

from __future__ import annotations

import math
from enum import Enum
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Nominal coverage of the intervals."""

_QUANTILE = (1 + CONFIDENCE) / 2
_Z2 = NormalDist().inv_cdf(_QUANTILE) ** 2
_NO_VARIANCE = 1e-24
"""Variances up to this are rounding errors and count as zero."""

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


def score_interval(
    values: NDArray[np.generic],
    *,
    classes: NDArray[np.int64] | None = None,
    scale: Scale = Scale.SHARE,
) -> Interval:
    """The mean score with its confidence interval over new label draws and new test images.

    The interval of a fraction is symmetric on the logit scale (Brown, Cai and DasGupta 2001,
    Statistical Science 16:101), that of a loss on the log scale; both stay inside the range. The
    plain t interval ignores the skew near the end of the range: with five widely spread repeats it
    covered a true accuracy near 1 in as few as 89 of 100 simulated sweeps, and a true log loss in
    as few as 90.

    With one repeat the variance over draws is unknown and left out: the interval then holds for
    that draw alone. With one image the variance over images is left out likewise.

    Args:
        values: (R, N) per repeat and test image, such as 0 (wrong) and 1 (right).
        classes: (N,) int64 class ids for a mean over the class means (balanced accuracy); None for
            the mean over images.
        scale: range of the values.

    Raises:
        ValueError: the matrix is empty, not two-dimensional, or a value lies outside the range.
    """
    from scipy.special import expit, logit  # slow to import; no trial needs it

    found = _checked(values, scale)
    pseudo = pseudo_values(found, classes)
    mean = low = high = float(pseudo.mean())
    half = _half_width(pseudo, _unseen_variance(found, classes, scale.width))
    if scale is Scale.LOSS:
        shift = half / mean if mean > 0 else 0.0
        return Interval(mean, mean * math.exp(-shift), mean * math.exp(shift))
    if 0 < mean < 1:
        shift = half / (mean * (1 - mean))
        low, high = (float(expit(logit(mean) + sign * shift)) for sign in (-1, 1))
    open_share = _open_share(pseudo.shape[1], classes)
    return Interval(mean, min(low, 1 - open_share), max(high, open_share))


def difference_interval(
    values: NDArray[np.generic],
    other: NDArray[np.generic],
    *,
    classes: NDArray[np.int64] | None = None,
    scale: Scale = Scale.SHARE,
) -> Interval:
    """The score of `values` minus that of `other`, paired by repeat and image.

    Effects common to both (a lucky draw, a hard image) cancel, so this interval is narrower than
    the two separate intervals suggest. If all values are equal, the difference is exactly zero.

    Args:
        values: (R, N) per repeat and test image.
        other: (R, N) for the same repeats and images in the same order.
        classes: see `score_interval`.
        scale: see `score_interval`.

    Raises:
        ValueError: the shapes differ, or see `score_interval`.
    """
    if values.shape != other.shape:
        raise ValueError(f"paired values: got shapes {values.shape} and {other.shape}")
    difference = _checked(values, scale) - _checked(other, scale)
    if not difference.any():
        return Interval(0.0, 0.0, 0.0)
    pseudo = pseudo_values(difference, classes)
    mean = float(pseudo.mean())
    half = _half_width(pseudo, _unseen_variance(difference, classes, 2 * scale.width))
    limit = 1 - 2 * _open_share(pseudo.shape[1], classes) if scale is Scale.SHARE else math.inf
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


def pseudo_values(
    values: NDArray[np.float64], classes: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """(R, N) leave-one-image-out pseudo-values of each repeat's score; their means are the scores.

    With N images, K classes, and n_c images of mean r_c in class c, leaving out image i of class c
    changes the mean over classes by (x_i - r_c) / (K (n_c - 1)); its pseudo-value is the score plus
    N - 1 times that change. The number of classes stays K: the only image of a class is never left
    out, and its pseudo-value is the score.

    Args:
        values: (R, N) float64 per repeat and image.
        classes: (N,) int64 class ids for a mean over class means; None for a mean over images.
    """
    if classes is None:
        return values
    _, of_image, counts = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(of_image, weights=line) for line in values]) / counts
    weights = (len(classes) - 1) / (len(counts) * np.maximum(counts - 1, 1))
    deviations: NDArray[np.float64] = (values - means[:, of_image]) * weights[of_image]
    found: NDArray[np.float64] = means.mean(axis=1, keepdims=True) + deviations
    return found


def _checked(values: NDArray[np.generic], scale: Scale) -> NDArray[np.float64]:
    """`values` as float64.

    Raises:
        ValueError: the shape or a value is invalid; see `score_interval`.
    """
    found = np.asarray(values, dtype=np.float64)
    low, high = scale.value
    inside = np.isfinite(found) & (found >= low - _ROUNDING) & (found <= high + _ROUNDING)
    if found.ndim != 2 or found.size == 0 or not inside.all():
        raise ValueError(
            f"values: got shape {found.shape}; allowed: (R, N) numbers from {low:g} to {high:g}"
        )
    return found


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


def _half_width(values: NDArray[np.float64], unseen: float) -> float:
    """Half the width of the t interval of the mean; 0 if all values are equal.

    Args:
        values: (R, N) float64 per repeat and image.
        unseen: added to the variance over images; see `_unseen_variance`.
    """
    from scipy.special import stdtrit

    num_repeats, num_images = values.shape
    of_repeats = _variance_of_mean(values.mean(axis=1))
    of_images = _variance_of_mean(values.mean(axis=0)) + unseen
    variance = of_repeats + of_images
    if variance > _NO_VARIANCE:
        freedom = variance**2 / (
            of_repeats**2 / max(1, num_repeats - 1) + of_images**2 / max(1, num_images - 1)
        )
    else:
        # If values differ only within repeats and images, as in a Latin square, all means are
        # equal. The variance of the cells over N is then an upper bound: that of identical repeats.
        variance = float(values.var()) / num_images
        freedom = max(1, num_images - 1)
    return float(stdtrit(freedom, _QUANTILE)) * math.sqrt(variance)


def _variance_of_mean(means: NDArray[np.float64]) -> float:
    """s2 / n of n means; 0 for a single one, whose variance is unknown."""
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0
