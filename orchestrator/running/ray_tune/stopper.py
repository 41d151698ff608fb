"""Stopping Tune from the driver, and passing exceptions of its hooks on to the driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.tune import Stopper


class NotPickled:
    """A mixin that pickles without state: Tune saves its objects for a restore that is not used."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class SweepStopper(NotPickled, Stopper):
    """Stops all trials when asked to, or after an exception in a hook.

    Tune would take an exception of a searcher or a scheduler for a failure of the trial that it was
    called for. So the hooks record it here, and the driver raises it after Tune has ended.

    Attributes:
        fault: the first exception of a hook, or None.
    """

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self._stopping = False

    def request_stop(self) -> None:
        """Make Tune stop all trials at its next step; safe inside a signal handler."""
        self._stopping = True

    def fail(self, error: Exception) -> None:
        """Record an error, if it is the first, and stop all trials."""
        self.fault = self.fault or error
        self.request_stop()

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stopping

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Record an exception that the block raises, and stop all trials; it does not propagate."""
        try:
            yield
        except Exception as error:
            self.fail(error)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """False: the scheduler stops single trials."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Whether to stop all trials now."""
        return self._stopping
