"""Predictions of a classification on the test split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from trainable.tasks.classification.scores import Scores, score


@dataclass(frozen=True, kw_only=True, eq=False)
class TestResult:
    """Predictions on the test split, in the order of the images.

    Attributes:
        predicted: (N,) int64 class ids.
        probability: (N,) float32 of the predicted class.
        label_probability: (N,) float32 of the true class.
        scores: of all of them.
        probabilities: (N, C) float32 of all classes; None where they are not asked for.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]
    label_probability: npt.NDArray[np.float32]
    scores: Scores
    probabilities: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls, log_probabilities: Tensor, labels: Tensor, *, all_probabilities: bool = False
    ) -> TestResult:
        """The result of (N, C) log-probabilities against (N,) labels, both on the CPU."""
        best = log_probabilities.max(dim=1)
        truth = log_probabilities.gather(1, labels[:, None])[:, 0]
        return cls(
            predicted=best.indices.numpy(),
            probability=best.values.exp().float().numpy(),
            label_probability=truth.exp().float().numpy(),
            scores=score(log_probabilities, labels),
            probabilities=log_probabilities.exp().float().numpy() if all_probabilities else None,
        )
