"""Choice of the pixels on which heads of dense networks are fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED
from trainable.data.subsets import derive_seed
from trainable.errors import DataError
from trainable.tasks.task import Places

PIXELS = 2048
"""Pixels of all images together on which a head is fitted, where they are not too few for each."""

LEAST, MOST = 32, 512
"""Limits of the pixels of one image."""


def choose_places(
    examples: LabelledExamples, indices: npt.NDArray[np.int64], *, drawn: int, seed: int
) -> Places:
    """Choose pixels at random, with replacement, among those that have a class; see `Task.places`.

    Those of an image depend on its content, on the seed, and on their number alone.

    Raises:
        DataError: no pixel of an image has a class.
    """
    assert examples.masks is not None
    number = min(MOST, max(LEAST, PIXELS // max(1, drawn)))
    points = np.empty((len(indices), number, 2), dtype=np.float32)
    labels = np.empty((len(indices), number), dtype=np.int64)
    for row, index in enumerate(indices.tolist()):
        mask = examples.masks.mask(index)
        pixels = np.flatnonzero(mask.ravel() != IGNORED)
        if not len(pixels):
            raise DataError(f"{examples.paths[index]}: no pixel of its mask has a class")
        own = derive_seed("places", seed, examples.digests[index].tobytes().hex())
        chosen = np.random.default_rng(own).choice(pixels, number)
        lines, columns = np.unravel_index(chosen, mask.shape)
        height, width = mask.shape
        points[row, :, 0] = (2 * columns + 1) / width - 1
        points[row, :, 1] = (2 * lines + 1) / height - 1
        labels[row] = mask[lines, columns]
    return Places(points=torch.from_numpy(points), labels=torch.from_numpy(labels))
