"""How the driver stops Tune, and how an error inside Tune's hooks gets out of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.tune import Stopper


class NotPickled:
    """Pickles to nothing. Tune saves its set-up for a restore that is never asked for."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class SweepStopper(NotPickled, Stopper):
    """Stops everything once asked to, or once one of our hooks has raised.

    Tune takes an exception of a searcher or a scheduler for a failure of the trial it was called
    for. So the hooks keep theirs here, and the driver raises it when Tune has come to an end.

    Attributes:
        fault: the first exception of a hook, or None.
    """

    def __init__(self) -> None:
        self.fault: BaseException | None = None
        self._stopping = False

    def request_stop(self) -> None:
        """Let Tune stop all trials at its next step; may be called by a signal handler."""
        self._stopping = True

    def fail(self, error: Exception) -> None:
        """Stop everything because of an error; the first one is kept."""
        self.fault = self.fault or error
        self.request_stop()

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stopping

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Keep an exception raised inside, and stop everything because of it."""
        try:
            yield
        except Exception as error:
            self.fail(error)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are stopped by the scheduler."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Whether to end now."""
        return self._stopping
