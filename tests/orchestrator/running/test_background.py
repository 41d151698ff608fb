"""Calls in a background thread: their results and exceptions reach the main thread."""

from __future__ import annotations

import threading

import pytest

from orchestrator.errors import UsageError
from orchestrator.running.background import BackgroundCall, unfinished


def test_the_result_of_the_function_is_returned() -> None:
    assert BackgroundCall(lambda: 42).result() == 42


def test_it_runs_in_another_thread() -> None:
    assert BackgroundCall(threading.current_thread).result() is not threading.current_thread()


def test_the_exception_of_the_function_is_raised_unchanged() -> None:
    def fail() -> None:
        raise UsageError("photos: no such folder")

    with pytest.raises(UsageError, match=r"^photos: no such folder$"):
        BackgroundCall(fail).result()


def test_it_is_unfinished_until_it_is_done() -> None:
    go_on = threading.Event()
    working = BackgroundCall(lambda: go_on.wait(60))
    assert unfinished()
    go_on.set()
    assert working.result()
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("sft-sweep"):
            thread.join(60)
    assert not unfinished()
