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

MOST_SHOWN = 12
"""Most predicted masks of a test that are kept."""

FOUND, TRUE, GIVEN = range(3)
"""What `MaskResult.pixels` counts: pixels that were rightly predicted, true ones, and predicted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskResult:
    """Predicted masks of the test split, as counts; see `TestResult`.

    Attributes:
        pixels: (N, C, 3) int32 pixels of each class: rightly predicted, true, and predicted.
        losses: (N,) float32 mean negative log-probability of a pixel's class, in nats.
        confusion: (C, C) int64 pixels of all images, by true and by predicted class.
        worst: (K,) int32 numbers of the images with the lowest mean IoU of the classes that they
            hold, at most `MOST_SHOWN`.
        worst_masks: (K, SHOWN_SIDE, SHOWN_SIDE) uint8 classes that were predicted for them.
        scores: of all of them.
    """

    pixels: npt.NDArray[np.int32]
    losses: npt.NDArray[np.float32]
    confusion: npt.NDArray[np.int64]
    worst: npt.NDArray[np.int32]
    worst_masks: npt.NDArray[np.uint8]
    scores: MaskScores

    @classmethod
    def of(cls, counts: Tensor, losses: Tensor, shown: Tensor) -> MaskResult:
        """The result of (N, C, C) counts, (N,) losses and (N, ...) small masks of each image."""
        pixels = torch.stack(
            [counts.diagonal(dim1=1, dim2=2), counts.sum(dim=2), counts.sum(dim=1)], dim=2
        )
        worst = torch.argsort(_own_iou(pixels), stable=True)[:MOST_SHOWN]
        return cls(
            pixels=pixels.int().numpy(),
            losses=losses.float().numpy(),
            confusion=counts.sum(dim=0).numpy(),
            worst=worst.int().numpy(),
            worst_masks=shown[worst].numpy(),
            scores=score_masks(counts, losses),
        )

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return all attributes that are arrays."""
        return {
            "pixels": self.pixels,
            "losses": self.losses,
            "confusion": self.confusion,
            "worst": self.worst,
            "worst_masks": self.worst_masks,
        }


def _own_iou(pixels: Tensor) -> Tensor:
    """(N,) mean IoU of the classes that each image holds; NaN where it holds none."""
    found, true, given = (pixels[:, :, number].double() for number in (FOUND, TRUE, GIVEN))
    iou = torch.where(true > 0, found / (true + given - found), torch.nan)
    return iou.nanmean(dim=1)
