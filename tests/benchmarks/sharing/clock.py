"""Measurement of the time from the request for the first trial to the end of the last one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of one run of a contestant.

    Attributes:
        seconds: the measured time.
        before_s: seconds of reading and checking before the first trial, which do not count.
        accuracy: mean accuracy of the trials at their last report, or that of the case.
        features_s: seconds that all trials took to compute activations; only for sft-sweep.
        peak_memory_bytes: peak memory of a trial's process; only for sft-sweep.
    """

    seconds: float
    accuracy: float
    before_s: float = 0.0
    features_s: float = 0.0
    peak_memory_bytes: int = 0


class Clock(Callback):
    """Runs from Tune's first step, which asks for the first trial, to the end of the last one."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._end = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Start the clock at the first step."""
        if self._start is None:
            self._start = time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial."""
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds between start and end."""
        assert self._start is not None
        return self._end - self._start
