"""Laws of the one rule of ranking."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.recording.ranking import Standing
from trainable.spec.metrics import Metric

COARSE = st.sampled_from([None, math.nan, 0.25, 0.5])


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    """Configurations full of ties, each with an id of its own."""
    return [
        Standing(
            objective=draw(COARSE),
            is_probe=draw(st.booleans()),
            loss=draw(COARSE),
            trainable_params=draw(st.sampled_from([None, 10, 20])),
            lr=draw(COARSE),
            trial_id=f"b5-{number:04d}",
        )
        for number in draw(st.permutations([0, 1, 2, 9_999, 10_000]))
    ]


@given(standings(), st.sampled_from(Metric))
def test_the_order_is_total_and_no_two_configurations_share_a_place(
    found: list[Standing], metric: Metric
) -> None:
    keys = [one.key(metric) for one in found]
    assert len(set(keys)) == len(keys)
    assert not any(isinstance(value, float) and math.isnan(value) for key in keys for value in key)
    ordered = sorted(keys)
    assert all(a < b for number, a in enumerate(ordered) for b in ordered[number + 1 :])


@given(standings(), st.sampled_from(Metric))
def test_a_better_objective_always_ranks_first_and_then_a_probe(
    found: list[Standing], metric: Metric
) -> None:
    ordered = sorted(found, key=lambda one: one.key(metric))
    for one, other in pairwise(ordered):
        a, b = one.objective, other.objective
        if a is not None and b is not None and not math.isnan(a) and not math.isnan(b):
            assert a >= b if metric.maximize else a <= b
            assert a != b or one.is_probe >= other.is_probe


def test_ids_past_four_digits_count_on() -> None:
    late, early = (
        Standing(
            objective=0.5, is_probe=False, loss=0.5, trainable_params=1, lr=0.1, trial_id=trial_id
        )
        for trial_id in ("b5-10000", "b5-9999")
    )
    assert early.key(Metric.ACCURACY) < late.key(Metric.ACCURACY)
