"""Signals that end a running sweep: the first one ends it cleanly, the second at once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a sweep: Ctrl-C, a request to terminate, a closed terminal."""

AGAIN_S = 0.05
"""Delay before a signal that arrived at an unsafe place is sent again, in seconds."""

_LOGGING = logging.Logger.handle.__code__.co_filename
_STARTING_A_PROCESS = subprocess.Popen.__init__.__code__


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Call `stop` at the first signal of `ENDING`; exit at once at the second.

    Signals that the process ignores, such as SIGHUP under nohup, stay ignored. If a signal was
    caught, the handlers stay installed after the block, because the process is about to end.
    Outside the main thread nothing is installed.

    Args:
        stop: called inside the signal handler.

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
        yield caught  # Python lets only the main thread install handlers
        return
    restore = _install(handle)
    try:
        yield caught
    finally:
        if not caught:
            restore()


def _install(handle: Callable[[int, FrameType | None], None]) -> Callable[[], None]:
    """Handle the signals of `ENDING` that the process does not ignore; return what undoes this."""
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


@contextmanager
def first_signal_afterwards() -> Iterator[None]:
    """Hold the first signal of `ENDING` back until the block has ended; a second one acts at once.

    Signals that the process ignores stay ignored. Outside the main thread nothing is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread install handlers
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        del frame
        held.append(number)
        if len(held) > 1:
            restore()
            signal.raise_signal(number)

    restore = _install(hold)
    try:
        yield
    finally:
        restore()
        if len(held) == 1:
            signal.raise_signal(held[0])


@contextmanager
def interrupted_at_safe_places() -> Iterator[None]:
    """Delay Ctrl-C where the main thread must not be interrupted while other threads run.

    These are places at which Python can swallow an interrupt and leave a lock held for good, or a
    process of which nobody knows: imports (CPython 3.11, `importlib._bootstrap._get_module_lock`),
    logging, and the start of a process, with what `os.register_at_fork` runs then. The signal is
    sent again every `AGAIN_S` seconds until it arrives outside of them.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not _must_go_on(frame):
            raise KeyboardInterrupt
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # Python lets only the main thread install handlers; another handler stays
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _must_go_on(frame: FrameType | None) -> bool:
    """Whether this frame, or one of its callers, is at a place of `interrupted_at_safe_places`."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib.") or code.co_filename == _LOGGING:
            return True
        if code is _STARTING_A_PROCESS:
            return True
        frame = frame.f_back
    return False


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Raise SystemExit at SIGTERM, so that `finally` blocks and context managers run."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread install handlers
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
