"""Targets and scores of classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric
from trainable.tasks.classification.results import ClassResult
from trainable.tasks.classification.scores import (
    ClassScores,
    calibrated_log_loss,
    log_loss,
    score,
)
from trainable.tasks.task import Outcomes, Task


@dataclass(frozen=True, eq=False)
class ClassTargets:
    """Class ids of N examples; see `Targets`.

    Outcomes are (N, C) float64 log-probabilities, and the (N,) class ids.

    Attributes:
        labels: (N,) int64 class ids.
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device of the labels."""
        return self.labels.device

    def at(self, positions: Tensor) -> ClassTargets:
        """Return the class ids at some positions."""
        return ClassTargets(self.labels[positions])

    def losses(self, outputs: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the cross-entropy of (N, C) logits."""
        return functional.cross_entropy(
            outputs.float(), self.labels, label_smoothing=label_smoothing, reduction="none"
        )

    def outcomes(self, outputs: Tensor) -> Outcomes:
        """Return the log-probabilities of (N, C) logits, and the class ids."""
        return functional.log_softmax(outputs.double(), dim=1).cpu(), self.labels.cpu()


class _Classification:
    """See `Task`."""

    name = "classification"
    is_dense = False

    def targets(
        self,
        examples: LabelledExamples,
        indices: npt.NDArray[np.int64],
        *,
        size: int,
        device: torch.device,
    ) -> ClassTargets:
        """Return the class ids of some examples."""
        del size
        return ClassTargets(torch.from_numpy(examples.labels[indices]).to(device))

    def placeholders(
        self, count: int, *, num_classes: int, size: int, device: torch.device
    ) -> ClassTargets:
        """Return the class ids 0, 1 and so on, again and again."""
        del size
        return ClassTargets(torch.arange(count, device=device) % num_classes)

    def places(
        self, examples: LabelledExamples, indices: npt.NDArray[np.int64], *, drawn: int, seed: int
    ) -> None:
        """Return None: an example has one class."""
        del examples, indices, drawn, seed

    def scores(self, outcomes: Outcomes) -> ClassScores:
        """Score log-probabilities against class ids."""
        log_probabilities, labels = outcomes
        return score(log_probabilities, labels)

    def best_share(self, outcomes: Mapping[float, Outcomes], metric: Metric) -> float:
        """Return the position with the lowest log loss, and the lowest on ties.

        Log loss compares positions, because it separates them on fewer examples than accuracy does.
        If the objective is another metric, each position is first calibrated by its best
        temperature, because training makes predictions more confident whether or not it makes them
        better.
        """
        of = log_loss if metric is Metric.LOG_LOSS else calibrated_log_loss
        return min(sorted(outcomes), key=lambda share: of(*outcomes[share]))

    def result(self, outcomes: Outcomes, *, all_probabilities: bool = False) -> ClassResult:
        """Return predicted classes and their probabilities."""
        log_probabilities, labels = outcomes
        return ClassResult.of(log_probabilities, labels, all_probabilities=all_probabilities)


CLASSIFICATION: Task = _Classification()
