"""Outcomes and intervals of arrays of values, for tests of what is computed from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.recording.statistics.intervals import (
    Interval,
    difference_interval,
    score_interval,
)
from orchestrator.recording.statistics.outcomes import (
    Outcomes,
    Scale,
    class_mean_outcomes,
    mean_outcomes,
)

Values = NDArray[np.generic]
Classes = NDArray[np.int64]


def outcomes_of(
    values: Values, *, classes: Classes | None = None, scale: Scale = Scale.SHARE
) -> Outcomes:
    """Outcomes of (R, N) values: of their mean, or of the mean of the means of classes."""
    if classes is None:
        return mean_outcomes(values, scale=scale)
    return class_mean_outcomes(values, classes)


def interval_of(
    values: Values, *, classes: Classes | None = None, scale: Scale = Scale.SHARE
) -> Interval:
    """The score of (R, N) values with its interval."""
    return score_interval(outcomes_of(values, classes=classes, scale=scale))


def difference_of(
    values: Values,
    other: Values,
    *,
    classes: Classes | None = None,
    scale: Scale = Scale.SHARE,
) -> Interval:
    """The difference of the scores of (R, N) values, with its interval."""
    return difference_interval(
        outcomes_of(values, classes=classes, scale=scale),
        outcomes_of(other, classes=classes, scale=scale),
    )
