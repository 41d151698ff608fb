"""Rate-limit a call so that it uses at most 5 % of wall-clock time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, ParamSpec

SHARE = 0.05
"""Largest fraction of wall-clock time that the calls may use."""

Given = ParamSpec("Given")


class Throttled(Generic[Given]):
    """A rate-limited call, for work whose cost grows with the sweep.

    After a call that took t seconds the next one is due after `max(every_s, t / SHARE)` seconds.

    Args:
        call: the function to rate-limit.
        every_s: shortest time between two calls, in seconds.
        at_once: whether the first call is due at once; otherwise it is due after `every_s`.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self,
        call: Callable[Given, object],
        *,
        every_s: float = 0.0,
        at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._every_s = every_s
        self._clock = clock
        self._next = -math.inf if at_once else clock() + every_s

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> bool:
        """Call the function with these arguments if it is due; return whether it was called.

        A call that raises is due again after `every_s`.
        """
        start = self._clock()
        if start < self._next:
            return False
        self._next = start + self._every_s
        self._call(*args, **kwargs)
        end = self._clock()
        self._next = end + max(self._every_s, (end - start) / SHARE)
        return True
