"""Trainings on the whole budget that collapse are repeated at lower rates."""

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.builders.checkpoints import Keeper
from tests.trainable.training import test_trial
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.training.probe import ProbeMemo
from trainable.training.trial import Trial
from trainable.training.whole_training import has_collapsed, specs_to_try

pytestmark = pytest.mark.usefixtures("one_thread")

begin = partial(Trial, probes=ProbeMemo())
"""A trial; all of them here share the probes that their heads start from, which takes most time."""


spec_of = partial(test_trial.spec_of, lr=0.03, freeze_depth=0.25, steps=12)
"""A configuration whose training collapses on the first draw, but not at half its rate."""


def probabilities(result: Any) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = result.arrays()["label_probability"]
    return found


@pytest.mark.parametrize(
    ("first", "last", "num_classes", "expected"),
    [
        (0.4, 0.01, 10, False),
        (0.4, 0.79, 10, False),
        (0.4, 0.81, 10, True),  # twice as much
        (0.001, 0.09, 10, False),  # small, whatever it was
        (0.001, 0.11, 10, True),
        (1.2, 1.8, 10, False),
        (1.2, 2.3, 10, True),  # that of guessing one of ten
        (0.4, 0.69, 2, True),  # that of guessing one of two
        (0.6, 0.65, 2, False),
        (math.log(2), 0.7, 2, False),  # a head of zeros that has learnt nothing
        (math.log(2), 0.8, 2, True),
        (0.4, math.inf, 2, True),
        (math.inf, 2.3, 10, False),  # unknown to checkpoints of old
    ],
)
def test_a_training_has_collapsed_if_its_loss_is_much_higher_than_at_first(
    first: float, last: float, num_classes: int, *, expected: bool
) -> None:
    assert has_collapsed(first, last, num_classes=num_classes) is expected


def test_a_checkpoint_goes_on_with_the_training_that_made_it() -> None:
    spec = spec_of(lr=0.4)
    assert [one.lr for one in specs_to_try(spec)] == [0.4, 0.2, 0.1]
    assert [one.lr for one in specs_to_try(spec, reached=0.2)] == [0.2, 0.1]
    assert [one.lr for one in specs_to_try(spec, reached=0.3)] == [0.4, 0.2, 0.1]


def test_a_training_that_collapses_is_repeated_at_half_its_rate(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial, other = (begin(spec_of(lr=lr), digit_images, strokes) for lr in (0.03, 0.015))
    found, expected = trial.refit(), other.refit()
    assert (trial.lr_factor, other.lr_factor) == (0.5, 1.0)
    assert np.array_equal(probabilities(found), probabilities(expected))
    assert begin(spec_of(), digit_images, strokes).fit().spec.lr == 0.015


@pytest.mark.parametrize("lr", [0.1, 1e30])
def test_the_start_is_kept_where_every_training_collapses_or_diverges(
    digit_images: LabelledExamples, strokes: Backbone, lr: float
) -> None:
    trial = begin(spec_of(lr=lr), digit_images, strokes)
    start = begin(spec_of(interpolation=0.0), digit_images, strokes)
    vanishing = begin(spec_of(lr=1e-12), digit_images, strokes).refit()
    found, expected = trial.refit(), start.refit()
    assert (trial.lr_factor, start.lr_factor) == (0.0, None)
    assert np.array_equal(probabilities(found), probabilities(expected))
    assert np.allclose(probabilities(found), probabilities(vanishing), atol=1e-5)
    assert begin(spec_of(lr=lr), digit_images, strokes).fit().spec.interpolation == 0


def test_a_refit_resumed_at_any_rate_predicts_as_an_undisturbed_one(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = spec_of(repeat=1)
    keeper = Keeper()
    undisturbed = begin(spec, digit_images, strokes).refit(after_update=keeper)
    assert len(keeper.files) == 3 * 12
    for checkpoint in keeper.checkpoints()[5::6]:  # amid each training, and at its end
        trial, again = begin(spec, digit_images, strokes), Keeper()
        found = trial.refit(start=checkpoint, after_update=again)
        assert trial.lr_factor == 0.25
        assert np.array_equal(probabilities(found), probabilities(undisturbed))
        assert len(again.files) < len(keeper.files)
