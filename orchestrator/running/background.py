"""Work that a thread does while the main thread does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_NAME = "sft-sweep meanwhile"


class BackgroundCall(Generic[_Result]):
    """Begins work in a thread of its own, which must create no processes and handle no signals.

    Nothing waits for the thread where its result is not wanted any more; see `unfinished`.

    Args:
        work: what to do.
    """

    def __init__(self, work: Callable[[], _Result]) -> None:
        self._future: Future[_Result] = Future()
        self._work = work
        threading.Thread(target=self._run, name=_NAME, daemon=True).start()

    def result(self) -> _Result:
        """What the work came to, once it is done; raises what it raised. Ctrl-C ends the waiting.

        Raises:
            BaseException: whatever the work raised.
        """
        return self._future.result()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:
            self._future.set_exception(error)


def unfinished() -> bool:
    """Whether a thread is still at such work, although nothing waits for it."""
    return any(thread.name == _NAME for thread in threading.enumerate())
