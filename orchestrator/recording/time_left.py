"""How long a sweep still takes, reckoned from the training that is known to be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LEAST_SHARE = 0.01
"""Of the training of a sweep that has to be done before anything is said of the rest."""


@dataclass(frozen=True)
class Training:
    """The training of a sweep, in images that its optimizer updates pass over.

    Attributes:
        done: known to be done, from reports and what has settled.
        due: of what is left, done at most already by what is out: each piece tells of it with its
            next report, or with its end.
        left: not known to be done, and to be done if nothing more is pruned.
    """

    done: float
    due: float
    left: float


class TimeLeft:
    """Seconds until all is done at an even pace.

    What is known of the pace is a range: all that is `due` may have been done, or nothing of it.
    The first answer is the longest time of that range. From then on the time is counted down, and
    leaves the count only where no even pace since the beginning explains it. So it never rises at
    an even pace, however seldom reports come, and does rise where the pace falls.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beginning: tuple[float, float] | None = None
        self._end: float | None = None

    def __call__(self, training: Training) -> float | None:
        """The seconds left; None while too little is done to tell, and once nothing is left."""
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
