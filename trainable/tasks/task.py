"""Interface of a task: what a label is, and so what a head is trained on and scored against.

For the examples of a batch, a network's outputs and the *targets* give one loss per example, for
training, and *outcomes*, for scores: what the predictions leave behind, small, with one row per
example. Outcomes of batches and of folds are joined, and scored as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric

Outcomes = tuple[Tensor, ...]
"""(N, ...) tensors on the CPU, with one row per example."""


class Scores(Protocol):
    """Scores of a set of predictions."""

    @property
    def accuracy(self) -> float | None:
        """Share of examples with the right class, 0..1; None where they have no single class."""

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean over the classes of the share found, 0..1; None where there is no accuracy."""

    @property
    def log_loss(self) -> float:
        """Mean negative log-probability of the label, in nats."""

    @property
    def count(self) -> int:
        """Number of examples."""

    def objective(self, metric: Metric) -> float:
        """Return the score that a metric of the task names."""

    def to_json(self) -> dict[str, Any]:
        """Return every score by its name."""


class TestResult(Protocol):
    """Predictions on the test split, in the order of the examples."""

    @property
    def scores(self) -> Scores:
        """Scores of all predictions."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return what is kept of the predictions: (N, ...) arrays by name."""


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


@dataclass(frozen=True, eq=False)
class Places:
    """Places within examples that stand for all of them where heads are fitted.

    Attributes:
        points: (N, K, 2) float32 places within N images, from -1 (left, top) to 1 (right, bottom).
        labels: (N, K) int64 class ids of the places.
    """

    points: Tensor
    labels: Tensor


class Task(Protocol):
    """What a label is.

    Attributes:
        name: as in `LabelledExamples`.
        is_dense: whether a network predicts a map, with a class for each of its places.
    """

    name: str
    is_dense: bool

    def targets(
        self,
        examples: LabelledExamples,
        indices: npt.NDArray[np.int64],
        *,
        size: int,
        device: torch.device,
    ) -> Targets:
        """Return the targets of some examples.

        Args:
            examples: the examples.
            indices: (M,) int64 indices.
            size: size of the network's inputs.
            device: the device of outputs.
        """

    def placeholders(
        self, count: int, *, num_classes: int, size: int, device: torch.device
    ) -> Targets:
        """Return targets of so many examples that do not exist, for a rehearsal."""

    def places(
        self, examples: LabelledExamples, indices: npt.NDArray[np.int64], *, drawn: int, seed: int
    ) -> Places | None:
        """Choose the places at which heads are fitted; None where an example has one class.

        Args:
            examples: the examples.
            indices: (M,) int64 indices.
            drawn: number of examples that heads are fitted on.
            seed: seed of the sweep.
        """

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
