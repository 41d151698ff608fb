"""Doing again and again what grows with the sweep, for a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, ParamSpec

SHARE = 0.05
"""Most of the time that such calls take up."""

Given = ParamSpec("Given")


class Throttled(Generic[Given]):
    """Calls something now and then, for at most a twentieth of the time.

    Args:
        call: what to do.
        every_s: shortest time between two calls, in seconds.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        call: Callable[Given, object],
        *,
        every_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._every_s = every_s
        self._clock = clock
        self._next = clock() + every_s

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> bool:
        """Do it with what is given, where it is time to; whether it was.

        What fails is due again after `every_s`.
        """
        start = self._clock()
        if start < self._next:
            return False
        self._next = start + self._every_s
        self._call(*args, **kwargs)
        end = self._clock()
        self._next = end + max(self._every_s, (end - start) / SHARE)
        return True
