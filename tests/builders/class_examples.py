"""Examples of a classification, and what learners predict for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainable.features.activations import Activations
from trainable.tasks.classification.task import ClassTargets
from trainable.training.head_learner import HeadLearners
from trainable.training.learner import Examples
from trainable.training.suffix_learner import SuffixLearner, SuffixLearners


def class_examples(activations: Activations, labels: Tensor | None = None) -> Examples:
    """Examples with class ids; all of class 0 where there are none."""
    if labels is None:
        labels = torch.zeros(len(activations), dtype=torch.int64)
    return Examples(activations, ClassTargets(labels))


def labels_of(examples: Examples) -> Tensor:
    """(N,) class ids."""
    assert isinstance(examples.targets, ClassTargets)
    return examples.targets.labels


def log_probabilities(learner: SuffixLearner, activations: Activations) -> Tensor:
    """(N, C) log-probabilities."""
    return learner.outcomes(class_examples(activations))[0]


def all_log_probabilities(
    learners: HeadLearners | SuffixLearners, parts: Sequence[Activations]
) -> list[Tensor]:
    """(N, C) log-probabilities of each learner."""
    return [found[0] for found in learners.outcomes([*map(class_examples, parts)])]
