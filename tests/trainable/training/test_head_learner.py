"""Heads that are trained together equal heads that are trained one after another."""

import math
from typing import Any

import pytest
import torch
from torch import fx, nn

from tests.builders.class_examples import (
    all_log_probabilities,
    class_examples,
    labels_of,
    log_probabilities,
)
from trainable.features.activations import Activations
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.head_learner import HeadLearners, is_bare_head
from trainable.training.learner import DivergedError, Examples
from trainable.training.logistic import LinearClassifier, fit_path
from trainable.training.suffix_learner import SuffixLearner

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["fold0", "fold1", "fold2"]
SETTINGS: dict[str, Any] = {
    "backbone": "tiny_strokes",
    "lr": 3e-2,
    "label_budget": LabelBudget(5),
    "freeze_depth": 1.0,
    "steps": 12,
    "batch_size": 16,
    "head_init": "zero",
    "batchnorm": "eval",
    "image_size": 8,
    "precision": "fp32",
}


def bare() -> fx.GraphModule:
    module = fx.symbolic_trace(nn.Sequential(nn.Linear(7, 4)))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def parts() -> list[Examples]:
    """Three folds of 9, 12 and 10 examples, scaled so that gradients are long enough to clip."""
    random = torch.Generator().manual_seed(0)
    return [
        class_examples(
            Activations([(5 * torch.randn(count, 7, generator=random),)]),
            torch.randint(4, (count,), generator=random),
        )
        for count in (9, 12, 10)
    ]


def initial_heads(spec: TrialSpec) -> list[LinearClassifier] | None:
    if spec.head_init == "zero":
        return None
    return [
        next(
            fit_path(
                part.activations.dense, labels_of(part), num_classes=4, inverse_penalties=[1.0]
            )
        )
        for part in parts()
    ]


def learners(spec: TrialSpec) -> list[SuffixLearner]:
    nothing: list[LinearClassifier | None] = [None] * 3
    starts = initial_heads(spec) or nothing
    return [
        SuffixLearner(bare(), "0", part, name=name, spec=spec, depth_of={}, initial_head=head)
        for part, name, head in zip(parts(), NAMES, starts, strict=True)
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "weight_decay": 0.1, "lr": 0.3},
        {"weight_decay": 0.5, "warmup": 0.3},
        {"label_smoothing": 0.2, "repeat": 1, "seed": 4},
        {"head_init": "logistic", "batch_size": 40},
        {"layer_decay": 0.7},
    ],
)
def test_losses_and_predictions_are_those_of_one_learner_a_fold(settings: dict[str, Any]) -> None:
    spec = TrialSpec(**{**SETTINGS, **settings})
    heads = HeadLearners(
        parts(), names=NAMES, spec=spec, num_classes=4, initial_heads=initial_heads(spec)
    )
    single = learners(spec)
    seen = [part.activations for part in parts()]
    for step in (5, 12):
        expected = sum(learner.advance(step) for learner in single) / 3
        assert heads.advance(step) == pytest.approx(expected, abs=1e-5)
        found = all_log_probabilities(heads, seen)
        for learner, features, mine in zip(single, seen, found, strict=True):
            theirs = log_probabilities(learner, features)
            assert mine.dtype == theirs.dtype == torch.float64
            assert torch.allclose(mine, theirs, atol=1e-5)
    assert not torch.allclose(found[0][:9], found[1][:9], atol=1e-2)


def test_gradients_are_clipped_in_the_comparison_above() -> None:
    spec = TrialSpec(**SETTINGS)
    heads = HeadLearners(parts(), names=NAMES, spec=spec, num_classes=4)
    norms: list[torch.Tensor] = []
    clip = heads._clip
    heads._clip = lambda: norms.append(clip()) or norms[-1]  # type: ignore[method-assign,func-returns-value]
    heads.advance(12)
    assert max(float(norm.max()) for norm in norms) > 1.5
    assert min(float(norm.min()) for norm in norms) < 1.0


def test_a_fold_does_not_depend_on_its_siblings() -> None:
    spec = TrialSpec(**SETTINGS)
    together = HeadLearners(parts(), names=NAMES, spec=spec, num_classes=4)
    alone = HeadLearners(parts()[1:2], names=NAMES[1:2], spec=spec, num_classes=4)
    together.advance(12)
    alone.advance(12)
    features = parts()[1].activations
    mine = all_log_probabilities(together, [part.activations for part in parts()])[1]
    assert torch.allclose(mine, all_log_probabilities(alone, [features])[0], atol=1e-6)


def test_a_huge_learning_rate_ends_as_diverged() -> None:
    spec = TrialSpec(**{**SETTINGS, "lr": 1e38, "warmup": 0.0})
    heads = HeadLearners(parts(), names=NAMES, spec=spec, num_classes=4)
    with pytest.raises(DivergedError, match="by step 12"):
        heads.advance(12)


def test_a_prediction_of_nan_ends_as_diverged() -> None:
    heads = HeadLearners(parts(), names=NAMES, spec=TrialSpec(**SETTINGS), num_classes=4)
    with pytest.raises(DivergedError, match="a prediction at step 0"):
        all_log_probabilities(heads, [Activations([(torch.full((2, 7), math.nan),)])] * 3)


def test_only_a_suffix_of_a_linear_head_is_bare() -> None:
    assert is_bare_head(bare(), "0")
    for more in (
        nn.Sequential(nn.Dropout(0.1), nn.Linear(7, 4)),
        nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 4)),
    ):
        assert not is_bare_head(fx.symbolic_trace(more), "1")
    assert not is_bare_head(fx.symbolic_trace(nn.Sequential(nn.Conv2d(7, 4, 1))), "0")
