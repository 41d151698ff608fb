"""The first signal asks for the end, the second one makes it, whenever it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from orchestrator.signals import ENDING, stopping_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves the handlers of this process as they were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_asks_and_the_second_one_ends() -> None:
    asked: list[bool] = []
    with stopping_on_signals(lambda: asked.append(True)):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 128 + signal.SIGINT
    assert asked == [True]


def test_a_second_signal_amid_what_follows_ends_with_its_own_code() -> None:
    with stopping_on_signals(lambda: None) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught == [signal.SIGTERM]
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_without_a_signal_everything_is_as_before() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with stopping_on_signals(lambda: None):
        assert [signal.getsignal(number) for number in ENDING] != before
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping_on_signals(lambda: None) as caught:
        os.kill(os.getpid(), signal.SIGHUP)
    assert caught == []
