"""Intervals in simulated sweeps with budgets, nested draws and two equal configurations."""

import numpy as np
import pytest

from tests.benchmarks.coverage import BUDGETS, SEPARATIONS, simulated
from trainable.spec.metrics import Metric


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_intervals_of_simulated_sweeps_hold_the_truth_at_every_budget(separation: float) -> None:
    results = simulated(Metric.ACCURACY, separation=separation, num_sweeps=200, num_for_truth=100)
    assert set(results) == set(BUDGETS)
    for truth, shares in results.values():
        assert 0.55 < truth < 0.98
        assert shares.held >= 0.92
        assert shares.differs <= 0.06


def test_intervals_of_balanced_accuracy_hold_the_truth_where_classes_are_uneven() -> None:
    held = []
    for separation in SEPARATIONS:
        results = simulated(
            Metric.BALANCED_ACCURACY, separation=separation, num_sweeps=200, num_for_truth=200
        )
        for truth, shares in results.values():
            assert 0.55 < truth < 0.98
            assert shares.held >= 0.92
            assert shares.differs <= 0.06
            held.append(shares.held)
    assert np.mean(held) >= 0.94


def test_intervals_over_repeats_alone_would_not() -> None:
    results = simulated(
        Metric.ACCURACY, separation=SEPARATIONS[1], num_sweeps=50, num_for_truth=100
    )
    for _, shares in results.values():
        assert shares.naive_held < 0.92
        assert shares.naive_differs > 0.06
