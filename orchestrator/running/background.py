"""A function call in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_NAME = "sft-sweep meanwhile"


class BackgroundCall(Generic[_Result]):
    """Calls a function in a daemon thread at once.

    The thread is not joined: if the result is not read, the process may end before it; see
    `unfinished`.

    Args:
        work: the function; it must not start processes or install signal handlers.
    """

    def __init__(self, work: Callable[[], _Result]) -> None:
        self._future: Future[_Result] = Future()
        self._work = work
        threading.Thread(target=self._run, name=_NAME, daemon=True).start()

    def result(self) -> _Result:
        """Wait for the function and return its result. Ctrl-C interrupts the wait.

        Raises:
            BaseException: the exception that the function raised.
        """
        return self._future.result()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:
            self._future.set_exception(error)


def unfinished() -> bool:
    """Whether a thread of a `BackgroundCall` is still running."""
    return any(thread.name == _NAME for thread in threading.enumerate())
