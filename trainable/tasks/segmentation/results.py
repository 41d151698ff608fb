"""Predictions of a segmentation on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.tasks.segmentation.scores import MaskScores, score_masks

FOUND, TRUE, GIVEN = range(3)
"""What `MaskResult.pixels` counts: pixels that were rightly predicted, true ones, and predicted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskResult:
    """Predicted masks of the test split, as counts; see `TestResult`.

    Attributes:
        pixels: (N, C, 3) int32 pixels of each class: rightly predicted, true, and predicted.
        losses: (N,) float32 mean negative log-probability of a pixel's class, in nats.
        confusion: (C, C) int64 pixels of all images, by true and by predicted class.
        scores: of all of them.
    """

    pixels: npt.NDArray[np.int32]
    losses: npt.NDArray[np.float32]
    confusion: npt.NDArray[np.int64]
    scores: MaskScores

    @classmethod
    def of(cls, counts: Tensor, losses: Tensor) -> MaskResult:
        """The result of (N, C, C) counts of each image, and of its (N,) losses."""
        pixels = torch.stack(
            [counts.diagonal(dim1=1, dim2=2), counts.sum(dim=2), counts.sum(dim=1)], dim=2
        )
        return cls(
            pixels=pixels.int().numpy(),
            losses=losses.float().numpy(),
            confusion=counts.sum(dim=0).numpy(),
            scores=score_masks(counts, losses),
        )

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return all attributes that are arrays."""
        return {"pixels": self.pixels, "losses": self.losses, "confusion": self.confusion}
