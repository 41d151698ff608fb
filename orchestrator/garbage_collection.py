"""Imports without garbage collection in between."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pauses:
    """The blocks that keep the collector paused, and whether it resumes after the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._resumes = False

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._resumes = gc.isenabled()
            self._count += 1
            gc.disable()

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count and self._resumes:
                gc.enable()


_pauses = _Pauses()


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Pause Python's cyclic garbage collector within the block, in all threads.

    Large packages make a million objects as they are imported, all of which stay. To look through
    them again and again takes a sixth of the time of importing torch and Ray Tune. Blocks may
    overlap, also in several threads; the collector resumes after the last one. A collector that was
    disabled before the first stays disabled.
    """
    _pauses.begin()
    try:
        yield
    finally:
        _pauses.end()
