"""Interface of a task: what a label is, and so what a head is trained on and scored against.

For the examples of a batch, a network's outputs and the *targets* give one loss per example, for
training, and *outcomes*, for scores: what the predictions leave behind, small, with one row per
example. Outcomes of batches and of folds are joined, and scored as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric
from trainable.tasks.classification.results import TestResult
from trainable.tasks.classification.scores import Scores

Outcomes = tuple[Tensor, ...]
"""(N, ...) tensors on the CPU, with one row per example."""


class Targets(Protocol):
    """The labels of N examples on one device."""

    def __len__(self) -> int: ...

    @property
    def device(self) -> torch.device:
        """The device of losses."""

    def at(self, positions: Tensor) -> Self:
        """Return the targets at some (M,) int64 positions, in the order given."""

    def losses(self, outputs: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the (N,) losses of a network's outputs, in nats.

        Args:
            outputs: (N, ...) outputs for these examples; their precision may be low.
            label_smoothing: 0..1.
        """

    def outcomes(self, outputs: Tensor) -> Outcomes:
        """Return what predictions leave behind for scores.

        Args:
            outputs: (N, ...) outputs for these examples.
        """


class Task(Protocol):
    """What a label is.

    Attributes:
        name: as in `LabelledExamples`.
    """

    name: str

    def targets(
        self, examples: LabelledExamples, indices: npt.NDArray[np.int64], *, device: torch.device
    ) -> Targets:
        """Return the targets of some examples.

        Args:
            examples: the examples.
            indices: (M,) int64 indices.
            device: the device of outputs.
        """

    def placeholders(self, count: int, *, num_classes: int, device: torch.device) -> Targets:
        """Return targets of so many examples that do not exist, for a rehearsal."""

    def scores(self, outcomes: Outcomes) -> Scores:
        """Score the outcomes of at least one example."""

    def best_share(self, outcomes: Mapping[float, Outcomes], metric: Metric) -> float:
        """Return the position with the best outcomes, the lowest on ties.

        Args:
            outcomes: by position between initial (0) and trained (1) weights, of the same examples.
            metric: the objective.
        """

    def result(self, outcomes: Outcomes, *, all_probabilities: bool = False) -> TestResult:
        """Return the result of a test on the examples of some outcomes.

        Args:
            outcomes: of the test examples, in their order.
            all_probabilities: whether it holds the probabilities of all classes.
        """


def joined(several: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of the examples of all, one after another."""
    return tuple(torch.cat(parts) for parts in zip(*several, strict=True))
