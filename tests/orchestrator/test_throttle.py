"""Calls that take up a small share of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from orchestrator.throttle import SHARE, Throttled


@dataclass
class Clock:
    """Seconds that rise when they are told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


def lasting(clock: Clock, seconds: float, starts: list[float]) -> Callable[[], None]:
    """What takes so long, and notes when it began."""

    def call() -> None:
        starts.append(clock.now)
        clock.now += seconds

    return call


def starts_within(
    clock: Clock, paced: Throttled[[]], starts: list[float], *, until: float
) -> list[float]:
    """When the calls began that came of asking ten times a second."""
    while clock.now < until:
        paced()
        clock.now = round(clock.now + 0.1, 6)
    return starts


def test_what_is_quick_is_called_as_often_as_it_may_be(clock: Clock) -> None:
    starts: list[float] = []
    paced = Throttled(lasting(clock, 0.0, starts), every_s=5.0, clock=clock)
    assert starts_within(clock, paced, starts, until=16.0) == [5.0, 10.0, 15.0]


def test_the_first_call_may_be_due_at_once(clock: Clock) -> None:
    starts: list[float] = []
    paced = Throttled(lasting(clock, 0.0, starts), every_s=5.0, at_once=True, clock=clock)
    assert starts_within(clock, paced, starts, until=11.0) == [0.0, 5.0, 10.0]


@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.0])
def test_what_is_slow_takes_no_more_than_its_share(clock: Clock, seconds: float) -> None:
    starts: list[float] = []
    paced = Throttled(lasting(clock, seconds, starts), every_s=1.0, clock=clock)
    starts_within(clock, paced, starts, until=2000.0)
    assert len(starts) * seconds <= SHARE * clock.now + seconds
    assert len(starts) * seconds >= 0.8 * SHARE * clock.now


def test_what_becomes_quick_again_is_called_more_often(clock: Clock) -> None:
    starts: list[float] = []
    seconds = iter([2.0, *[0.0] * 100])
    paced = Throttled(lambda: lasting(clock, next(seconds), starts)(), every_s=1.0, clock=clock)
    assert starts_within(clock, paced, starts, until=45.0) == [1.0, 43.0, 44.0]


def test_what_fails_is_tried_again_as_soon_as_it_may_be(clock: Clock) -> None:
    def fail() -> None:
        clock.now += 30.0
        raise OSError("no room")

    paced = Throttled(fail, every_s=5.0, clock=clock)
    clock.now = 5.0
    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            paced()


def test_what_is_given_is_handed_on(clock: Clock) -> None:
    given: list[tuple[str, int]] = []
    paced = Throttled(
        lambda what, *, number: given.append((what, number)), every_s=5.0, clock=clock
    )
    paced("early", number=1)
    clock.now = 5.0
    paced("in time", number=2)
    assert given == [("in time", 2)]


def test_it_says_whether_it_was_time(clock: Clock) -> None:
    paced = Throttled(lambda: None, every_s=5.0, clock=clock)
    assert not paced()
    clock.now = 5.0
    assert paced()
    assert not paced()
