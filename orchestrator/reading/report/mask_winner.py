"""Test masks of the recommended configuration: its classes, and its worst images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.reading.report.contents import Row
from orchestrator.recording.mask_answers import FOUND, LABELLED, PREDICTED, pixel_counts

MOST_SHOWN = 12
"""Largest number of images that are shown."""


@dataclass(frozen=True, kw_only=True)
class WorstMask:
    """A test image of which the winner predicted a bad mask.

    Attributes:
        image_id: hash of its content.
        path: its path, or its name in the source.
        iou: mean IoU of the classes that it holds, over all repeats.
        mask: PNG of the predicted classes, of the first repeat in which it was among the worst.
    """

    image_id: str
    path: str
    iou: float
    mask: bytes


@dataclass(frozen=True, kw_only=True)
class MaskWinner:
    """Test masks of the configuration that the answer recommends.

    Attributes:
        row: its row of the leaderboard.
        class_iou: name, IoU over all repeats and labelled pixels of each class in the test set, the
            worst first.
        worst: images with bad masks, the worst first.
    """

    row: Row
    class_iou: list[tuple[str, float, int]]
    worst: list[WorstMask]


def mask_winner(row: Row, predictions: pa.Table) -> MaskWinner | None:
    """Return the test masks of a configuration; None if it was not scored there.

    Args:
        row: its row of the leaderboard.
        predictions: predictions of its sweep.
    """
    its = predictions.filter(pc.equal(predictions["trial_id"], row["trial_id"]))
    if not its.num_rows:
        return None
    counts, names = pixel_counts(its)
    total = counts.sum(axis=0)
    repeats = max(1, len(pc.unique(its["repeat"])))
    scores = zip(names, _iou(total).tolist(), total[:, LABELLED].tolist(), strict=True)
    return MaskWinner(
        row=row,
        class_iou=sorted(
            ((name, iou, pixels // repeats) for name, iou, pixels in scores if pixels),
            key=lambda one: (one[1], one[0]),
        ),
        worst=_worst(its, counts),
    )


def _worst(its: pa.Table, counts: npt.NDArray[np.int64]) -> list[WorstMask]:
    held = counts[..., LABELLED] > 0
    own = np.where(held, _iou(counts), 0.0).sum(axis=1) / held.sum(axis=1).clip(min=1)
    by_image: dict[str, list[int]] = {}
    for number, image_id in enumerate(its["image_id"].to_pylist()):
        by_image.setdefault(image_id, []).append(number)
    masks, paths = its["mask"].to_pylist(), its["path"].to_pylist()
    found = [
        WorstMask(
            image_id=image_id,
            path=paths[rows[0]],
            iou=float(own[rows].mean()),
            mask=next(masks[row] for row in rows if masks[row] is not None),
        )
        for image_id, rows in by_image.items()
        if any(masks[row] is not None for row in rows)
    ]
    return sorted(found, key=lambda one: (one.iou, one.image_id))[:MOST_SHOWN]


def _iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(..., C) intersection over union of each class, from (..., C, 3) counts."""
    union = counts[..., LABELLED] + counts[..., PREDICTED] - counts[..., FOUND]
    return np.asarray(counts[..., FOUND] / union.clip(min=1))
