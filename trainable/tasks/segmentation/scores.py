"""Metrics of predicted masks, from counts of pixels by true and by predicted class.

Counts of images add up, and all scores but the loss are functions of their sum. A score that is a
mean over classes is taken over the classes that the true masks hold: which classes are averaged is
then a fact of the images, not of the predictions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainable.data.masks import IGNORED
from trainable.spec.metrics import Metric


@dataclass(frozen=True)
class MaskScores:
    """Scores of predicted masks; see `Scores`.

    Attributes:
        miou: mean over the classes present of the intersection over union, 0..1.
        pixel_accuracy: share of the pixels with a class that have the predicted one, 0..1.
        iou: of each class, 0..1; None for a class that no true mask holds.
        log_loss: mean over images of the mean negative log-probability of a pixel's class, in nats.
        count: number of images with a pixel that has a class.
    """

    miou: float
    pixel_accuracy: float
    iou: tuple[float | None, ...]
    log_loss: float
    count: int

    @property
    def accuracy(self) -> None:
        """See `Scores`."""

    @property
    def balanced_accuracy(self) -> None:
        """See `Scores`."""

    def objective(self, metric: Metric) -> float:
        """See `Scores`."""
        return float(getattr(self, metric.value))

    def to_json(self) -> dict[str, Any]:
        """See `Scores`."""
        return asdict(self)


def confusion(predicted: Tensor, mask: Tensor, *, num_classes: int) -> Tensor:
    """Count the pixels of one image by true and by predicted class; ignored ones do not count.

    Args:
        predicted: (H, W) integer class ids.
        mask: (H, W) uint8 class ids, or `IGNORED`.
        num_classes: number of classes, C, at most 255.

    Returns:
        (C, C) int64 counts: row of the true class, column of the predicted one.
    """
    # Rows of IGNORED are counted, too, and then left out: that is faster than leaving pixels out.
    rows = (IGNORED + 1) * num_classes
    cells = mask.to(torch.int32).mul_(num_classes).add_(predicted.to(torch.int32))
    counts = torch.bincount(cells.flatten(), minlength=rows)
    return counts[: num_classes * num_classes].view(num_classes, num_classes)


def pixel_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean negative log-probability of the classes of the pixels of one image, in nats.

    Args:
        logits: (C, H, W) floats.
        mask: (H, W) uint8 class ids, or `IGNORED`.

    Returns:
        A float64 number; 0 if all pixels are ignored.
    """
    labels = mask.long()[None]
    losses = functional.cross_entropy(logits[None], labels, ignore_index=IGNORED, reduction="sum")
    return losses.double() / (mask != IGNORED).sum().clamp(min=1)


def score_masks(counts: Tensor, losses: Tensor) -> MaskScores:
    """Scores of N images; those without a pixel that has a class do not count.

    Args:
        counts: (N, C, C) counts of each image; see `confusion`. At least one has a pixel.
        losses: (N,) loss of each image; see `pixel_loss`.
    """
    seen = counts.flatten(1).sum(dim=1) > 0
    total = counts.sum(dim=0).double()
    found, true, given = total.diagonal(), total.sum(dim=1), total.sum(dim=0)
    present = true > 0
    iou = found / (true + given - found)
    return MaskScores(
        miou=float(iou[present].mean()),
        pixel_accuracy=float(found.sum() / total.sum()),
        iou=tuple(
            one if held else None for one, held in zip(iou.tolist(), present.tolist(), strict=True)
        ),
        log_loss=float(losses[seen].mean()),
        count=int(seen.sum()),
    )
