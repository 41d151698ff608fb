from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.recording.time_left import TimeLeft, Training

TOTAL, PACE = 1000.0, 2.0


class Clock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def even(clock: Clock, *, every: float) -> Training:
    """One piece of work at an even pace, which tells of itself after each `every` of it."""
    done = PACE * clock.now // every * every
    return Training(done, min(every, TOTAL - done), TOTAL - done)


def test_nothing_is_said_before_the_first_report(clock: Clock) -> None:
    left = TimeLeft(clock)
    for clock.now in range(100):
        assert left(even(clock, every=200.0)) is None
    clock.now = 100.0
    assert left(even(clock, every=200.0)) == pytest.approx((TOTAL - 200) / PACE)


def test_it_is_counted_down_between_reports(clock: Clock) -> None:
    left = TimeLeft(clock)
    left(even(clock, every=200.0))
    for clock.now in range(100, 500):
        assert left(even(clock, every=200.0)) == pytest.approx(TOTAL / PACE - clock.now)


def test_nothing_is_said_at_the_end_or_of_little(clock: Clock) -> None:
    left = TimeLeft(clock)
    left(Training(0.0, 1.0, TOTAL))
    clock.now = 5.0
    assert left(Training(10.0, 1.0, TOTAL - 10)) is None
    assert left(Training(11.0, 1.0, TOTAL - 11)) is not None
    assert left(Training(TOTAL, 0.0, 0.0)) is None


def test_what_was_done_before_a_resume_says_nothing_of_the_pace(clock: Clock) -> None:
    left = TimeLeft(clock)
    left(Training(900.0, 0.0, 100.0))
    clock.now = 10.0
    assert left(Training(950.0, 0.0, 50.0)) == pytest.approx(10.0)


def test_pruning_lowers_it(clock: Clock) -> None:
    left = TimeLeft(clock)
    left(Training(0.0, 0.0, TOTAL))
    clock.now = 100.0
    assert left(Training(200.0, 0.0, 800.0)) == pytest.approx(400.0)
    assert left(Training(200.0, 0.0, 300.0)) == pytest.approx(150.0)


def test_it_rises_where_nothing_comes_any_more(clock: Clock) -> None:
    left = TimeLeft(clock)
    left(Training(0.0, 50.0, TOTAL))
    clock.now = 100.0
    first = left(Training(200.0, 50.0, 800.0))
    clock.now = 1000.0
    later = left(Training(200.0, 50.0, 800.0))
    assert first == pytest.approx(400.0)
    assert later == pytest.approx(1000 * 750 / 250)  # what is due may be done; no more than that


@given(
    steps=st.lists(
        st.tuples(st.floats(0.1, 50), st.floats(0, 100), st.floats(0, 1), st.floats(0, 40)),
        min_size=2,
        max_size=40,
    ),
    pace=st.floats(0.1, 100),
)
def test_it_never_rises_at_an_even_pace_whatever_is_due_and_pruned(
    steps: list[tuple[float, float, float, float]], pace: float
) -> None:
    """Each step: seconds that pass, what is due, the share of it that is done, what is pruned."""
    clock = Clock()
    left = TimeLeft(clock)
    total = pace * sum(seconds for seconds, *_ in steps) + sum(pruned for *_, pruned in steps)
    left(Training(0.0, 0.0, total))
    found, known = [], 0.0
    for seconds, due, share, pruned in steps:
        clock.now += seconds
        total -= pruned
        trained = pace * clock.now
        known = max(known, trained - due * share)
        told = left(Training(known, max(due, trained - known), total - known))
        if told is not None:
            found.append(told)
            assert told >= (total - trained) / pace * (1 - 1e-9) - 1e-6  # never too short
    for earlier, later in itertools.pairwise(found):
        assert later <= earlier * (1 + 1e-9) + 1e-6
