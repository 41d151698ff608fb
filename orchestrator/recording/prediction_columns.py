"""Columns of `predictions`, from the journal's record of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orchestrator.recording.array_text import from_text
from orchestrator.recording.table_schemas import SCHEMAS
from trainable.data.masks import SHOWN_SIDE, encode_mask

Names = npt.NDArray[np.object_]


def predicted_classes(
    test: Mapping[str, Any], names: Names, labels: Sequence[int]
) -> dict[str, pa.Array]:
    """Return the columns of N predicted classes.

    Args:
        test: the record of the test.
        names: (C,) names of the classes.
        labels: (N,) ids of the true classes.
    """
    return {
        "label": pa.array(names[labels], pa.string()),
        "predicted": pa.array(names[from_text(test["predicted"])], pa.string()),
        "probability": pa.array(from_text(test["probability"]), pa.float64()),
        "label_probability": pa.array(from_text(test["label_probability"]), pa.float64()),
        "probabilities": _by_class(test.get("probabilities"), names, len(labels)),
    }


def predicted_masks(test: Mapping[str, Any], names: Names) -> dict[str, pa.Array]:
    """Return the columns of N predicted masks; a class without a pixel is left out of an image.

    Args:
        test: the record of the test.
        names: (C,) names of the classes.
    """
    pixels = from_text(test["pixels"]).reshape(-1, len(names), 3).astype(np.int64)
    rows, classes = np.nonzero(pixels.any(axis=2))
    kind = SCHEMAS["predictions"].field("pixels").type
    counts = [pa.array(pixels[rows, classes, number], pa.int64()) for number in range(3)]
    entries = pa.StructArray.from_arrays(
        [pa.array(names[classes], pa.string()), *counts], fields=list(kind.value_type)
    )
    masks: list[bytes | None] = [None] * len(pixels)
    worst = from_text(test["worst"]).tolist()
    shown = from_text(test["worst_masks"]).reshape(len(worst), SHOWN_SIDE, SHOWN_SIDE)
    for row, mask in zip(worst, shown, strict=True):
        masks[row] = encode_mask(mask.astype(np.uint8))
    ends = np.searchsorted(rows, np.arange(len(pixels) + 1)).astype(np.int32)
    return {
        "pixels": pa.ListArray.from_arrays(ends, entries).cast(kind),
        "log_loss": pa.array(from_text(test["losses"]), pa.float64()),
        "mask": pa.array(masks, pa.binary()),
    }


def _by_class(recorded: str | None, names: npt.NDArray[np.object_], count: int) -> pa.Array:
    """Return (N,) lists of a class and its probability; nulls if none were recorded.

    Args:
        recorded: text of N x C probabilities, or None.
        names: (C,) names of the classes.
        count: N.
    """
    kind = SCHEMAS["predictions"].field("probabilities").type
    if recorded is None:
        return pa.nulls(count, kind)
    offsets = np.arange(count + 1, dtype=np.int32) * len(names)
    columns = [
        pa.array(np.tile(names, count), pa.string()),
        pa.array(from_text(recorded), pa.float64()),
    ]
    pairs = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(offsets, pairs, type=kind)
