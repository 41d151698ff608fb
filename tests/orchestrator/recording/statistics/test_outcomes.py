"""Pseudo-values against the scores of all examples but one, computed one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orchestrator.recording.statistics.outcomes import (
    Outcomes,
    auroc_outcomes,
    averaged,
    class_mean_outcomes,
    macro_f1_outcomes,
    mean_outcomes,
)
from trainable.tasks.classification.scores import auroc, macro_f1

CLASSES = np.array([0] * 3 + [1] * 5 + [2] * 12)
NUM_REPEATS = 4

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def probabilities(seed: int, classes: Indices = CLASSES) -> Floats:
    """(R, N, 4) probabilities, with ties; no example is of the last class."""
    rng = np.random.default_rng(seed)
    odds = rng.integers(1, 6, (NUM_REPEATS, len(classes), 4)).astype(float)
    odds[:, np.arange(len(classes)), classes] += 2
    return np.asarray(odds / odds.sum(axis=2, keepdims=True))


def macro_f1_of(given: Floats, classes: Indices) -> float:
    return macro_f1(torch.from_numpy(given.argmax(axis=1)), torch.from_numpy(classes))


def auroc_of(given: Floats, classes: Indices) -> float:
    return auroc(torch.from_numpy(given).log(), torch.from_numpy(classes))


def f1_outcomes(given: Floats, classes: Indices) -> Outcomes:
    return macro_f1_outcomes(given.argmax(axis=2), classes)


KINDS = [
    pytest.param(f1_outcomes, macro_f1_of, id="macro_f1"),
    pytest.param(auroc_outcomes, auroc_of, id="auroc"),
]


@pytest.mark.parametrize(("outcomes", "score"), KINDS)
def test_scores_are_those_of_validation(
    outcomes: Callable[[Floats, Indices], Outcomes], score: Callable[[Floats, Indices], float]
) -> None:
    given = probabilities(1)
    expected = [score(one, CLASSES) for one in given]
    assert outcomes(given, CLASSES).scores == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("outcomes", "score"), KINDS)
def test_pseudo_values_are_those_of_leaving_one_example_out(
    outcomes: Callable[[Floats, Indices], Outcomes], score: Callable[[Floats, Indices], float]
) -> None:
    given, num = probabilities(2), len(CLASSES)
    expected = np.array(
        [
            [
                num * score(one, CLASSES)
                - (num - 1) * score(np.delete(one, left, axis=0), np.delete(CLASSES, left))
                for left in range(num)
            ]
            for one in given
        ]
    )
    # Their mean is the score, less a bias that belongs to no example.
    expected += [[score(one, CLASSES)] for one in given] - expected.mean(axis=1, keepdims=True)
    assert outcomes(given, CLASSES).pseudo == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("outcomes", "score"), KINDS)
def test_the_only_example_of_a_class_is_never_left_out(
    outcomes: Callable[[Floats, Indices], Outcomes], score: Callable[[Floats, Indices], float]
) -> None:
    classes = np.array([0] * 6 + [1] + [2] * 9)
    given = probabilities(3, classes)
    found = outcomes(given, classes)
    assert found.scores == pytest.approx([score(one, classes) for one in given], abs=1e-12)
    others = np.delete(np.arange(len(classes)), 6)
    spread = np.ptp(found.pseudo[:, others], axis=1)
    mean = found.pseudo[:, others].mean(axis=1)
    assert (np.abs(found.pseudo[:, 6] - mean) < spread).all()


def test_the_area_of_examples_of_one_class_alone_is_that_of_chance() -> None:
    found = auroc_outcomes(probabilities(4)[:, :3], CLASSES[:3])
    assert (found.pseudo == 0.5).all()


def test_a_mean_over_examples_is_its_own_pseudo_values() -> None:
    values = np.random.default_rng(5).random((3, 20))
    found = mean_outcomes(values)
    assert found.pseudo is found.values
    assert found.scores == pytest.approx(values.mean(axis=1))


def test_mixed_outcomes_have_mixed_scores() -> None:
    rng = np.random.default_rng(6)
    one, other = (class_mean_outcomes(rng.random((3, 20)), CLASSES) for _ in range(2))
    mixed = one.mixed(other, 0.25)
    assert mixed.scores == pytest.approx(0.75 * one.scores + 0.25 * other.scores)
    assert averaged([one, other]).pseudo == pytest.approx(one.mixed(other, 0.5).pseudo)
