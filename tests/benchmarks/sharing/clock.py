"""When the first trial was asked for, and when the last one had ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a contestant took, and what came of it.

    Attributes:
        seconds: the time that counts.
        before_s: reading and checking before the first trial, which does not.
        accuracy: mean of the trials at their last report, or what the question says.
        features_s: seconds of computing activations, over all trials; of ours alone.
        peak_memory_bytes: most memory of a process of trials; of ours alone.
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
        """Start at the first of them."""
        if self._start is None:
            self._start = time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """End at the last of them."""
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """What it shows."""
        assert self._start is not None
        return self._end - self._start
