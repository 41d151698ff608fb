"""Which examples hold which class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED, Masks


def holders(examples: LabelledExamples) -> npt.NDArray[np.bool_]:
    """Return (N, C) whether the class of an example, or a pixel of its mask, is of a class."""
    if examples.masks is None:
        found = np.zeros((len(examples), examples.num_classes), dtype=np.bool_)
        found[np.arange(len(examples)), examples.labels] = True
        return found
    return holders_of_masks(examples.masks, examples.num_classes)


def holders_of_masks(masks: Masks, num_classes: int) -> npt.NDArray[np.bool_]:
    """Return (N, C) whether a pixel of a mask is of a class."""
    found = np.zeros((len(masks), num_classes), dtype=np.bool_)
    for row in range(len(masks)):
        ids = np.unique(masks.mask(row))
        found[row, ids[ids != IGNORED]] = True
    return found
