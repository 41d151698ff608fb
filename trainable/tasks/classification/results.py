"""Predictions of a classification on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from trainable.tasks.classification.scores import ClassScores, score


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassResult:
    """Predicted classes of the test split; see `TestResult`.

    Attributes:
        predicted: (N,) int64 class ids.
        probability: (N,) float32 of the predicted class.
        label_probability: (N,) float32 of the true class.
        scores: of all of them.
        probabilities: (N, C) float32 of all classes; None where they are not asked for.
    """

    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]
    label_probability: npt.NDArray[np.float32]
    scores: ClassScores
    probabilities: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls, log_probabilities: Tensor, labels: Tensor, *, all_probabilities: bool = False
    ) -> ClassResult:
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

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return all attributes that are arrays; class ids as int32."""
        of_all = self.probabilities
        return {
            "predicted": self.predicted.astype(np.int32),
            "probability": self.probability,
            "label_probability": self.label_probability,
            **({} if of_all is None else {"probabilities": of_all}),
        }
