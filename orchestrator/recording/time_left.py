"""Estimate of the time that a sweep still takes, from the training that is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LEAST_SHARE = 0.01
"""Share of a sweep's training that has to be done before there is an estimate."""


@dataclass(frozen=True)
class Training:
    """The training of a sweep, in images processed by optimizer updates.

    Attributes:
        done: images known to be processed, from reports and settled work.
        due: upper bound of the images in `left` that running work has processed already; it
            reports them with its next report or at its end.
        left: images not known to be processed, assuming that no more trials are pruned.
    """

    done: float
    due: float
    left: float


class TimeLeft:
    """Estimates the seconds until the end at a constant pace.

    The pace is known up to a range, since all or nothing of `due` may have been done. The first
    estimate is the longest time of that range. From then on it is counted down, and corrected only
    if no constant pace since the beginning is consistent with it. So it never rises at a constant
    pace, even with rare reports, and does rise when the pace falls.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beginning: tuple[float, float] | None = None
        self._end: float | None = None

    def __call__(self, training: Training) -> float | None:
        """Return the seconds left; None while too little is done, and once nothing is left."""
        now = self._clock()
        if self._beginning is None:
            self._beginning = now, training.done
        start, before = self._beginning
        elapsed, done = now - start, training.done - before
        if not training.left or done <= LEAST_SHARE * (done + training.left):
            return None
        most = elapsed * training.left / done
        least = elapsed * (training.left - training.due) / (done + training.due)
        counted = most if self._end is None else self._end - now
        left = min(max(counted, least), most)
        self._end = now + left
        return left
