"""Signals that end a running sweep: the first one ends it cleanly, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the request to end, and a terminal that was closed."""

AGAIN_S = 0.05
"""After which a signal that came amid an import is sent again, in seconds."""


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Turn the first signal that asks for the end into a call of `stop`; a second one ends at once.

    One that is ignored, as SIGHUP under nohup, stays ignored. Once one was caught, the next ends
    the process after the block, too: then only the end of the process follows.

    Yields:
        The signals caught so far.
    """
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if caught:
            raise SystemExit(128 + number)
        caught.append(number)
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may handle signals; its owner does
        return
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield caught
    finally:
        if not caught:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def interrupted_between_imports() -> Iterator[None]:
    """Keep Ctrl-C back while this thread imports a module, and let it through right afterwards.

    For a main thread that imports modules while another thread does, too: an interrupt that comes
    as it waits for the import system can leave that locked for good, and be swallowed besides
    (CPython 3.11, `importlib._bootstrap._get_module_lock`).
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not _is_importing(frame):
            raise KeyboardInterrupt
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # only the main thread may handle signals; what else handles them raises nothing
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a call that a frame belongs to was made by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does: what has to be tidied up is."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; its owner does
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
