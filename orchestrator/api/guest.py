"""A sweep as a guest in a process that is not its own: a notebook's kernel, somebody's program.

What it changes there for itself is put back, and its end ends nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import UsageError
from orchestrator.signals import ENDING
from trainable.errors import TrainableError

_VARIABLES = ("RAY_", "TUNE_", "TMPDIR", "PYTHONBREAKPOINT", "GLIBC_TUNABLES")
"""How the names of variables begin that a sweep, or Ray for it, sets in the environment."""

_HANDLED = (*ENDING, signal.SIGUSR1)
"""Signals that a sweep, or Ray for it, handles while it runs."""

_running = threading.Lock()


@contextmanager
def guest_sweep() -> Iterator[None]:
    """Run a sweep in the block, alone in this process, and leave the process as it was.

    Signal handlers, `sys.excepthook` and Ray's variables in the environment are those of before
    when the block is left. A second Ctrl-C, which ends a sweep at once, comes out of it as
    `KeyboardInterrupt`.

    Raises:
        UsageError: a sweep or Ray runs in this process already; or what `trainable` refuses.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button, for the second time.
    """
    if not _running.acquire(blocking=False):
        raise UsageError(
            "a sweep runs in this process already; wait for its end, or start the other one in a "
            "process of its own"
        )
    try:
        _check_ray_is_free()
        with passing_on_signals(), _environment_kept(), as_usage_errors():
            yield
    finally:
        _running.release()


@contextmanager
def as_usage_errors() -> Iterator[None]:
    """Turn what `trainable` refuses into the error of this package, with the same message.

    Raises:
        UsageError: `trainable` refused something.
    """
    try:
        yield
    except TrainableError as error:
        raise UsageError(str(error)) from error


@contextmanager
def passing_on_signals() -> Iterator[None]:
    """Give signals back to whoever handled them before; only the main thread has any to give.

    A signal by which the block has ended its own way out (`SystemExit` of 128 and its number) is
    sent again once its old handler is back: that of Ctrl-C raises `KeyboardInterrupt`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED}
    ended_by: int | None = None
    try:
        yield
    except SystemExit as end:
        numbers = {128 + number: number for number in ENDING}
        ended_by = numbers.get(end.code) if isinstance(end.code, int) else None
        if ended_by is None:
            raise
    finally:
        for number, handler in before.items():
            if handler is not None:  # what C code has installed, Python cannot install again
                signal.signal(number, handler)
    if ended_by is not None:
        signal.raise_signal(ended_by)
        raise KeyboardInterrupt


def _check_ray_is_free() -> None:
    """Make sure that Ray is not in use here: a sweep starts it, and shuts it down at its end.

    Raises:
        UsageError: it is.
    """
    ray = sys.modules.get("ray")  # what nobody has imported, nobody has started
    if ray is not None and ray.is_initialized():
        raise UsageError(
            "Ray runs in this process already, and a sweep starts its own: call ray.shutdown() "
            "first, or start the sweep in a process of its own"
        )


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Leave Ray's variables and `sys.excepthook` as they were before the block."""
    before, hook = _variables(), sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        for name in _variables().keys() - before.keys():
            del os.environ[name]
        os.environ |= before


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
