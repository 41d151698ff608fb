"""Pixels of images or of their augmented views, as inputs of one backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from torch import Tensor

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.modalities.image.views import draw_views
from trainable.modalities.modality import Indices
from trainable.spec.augmentation import Augmentation

BATCH = 16
"""Images per forward pass on a CPU; part of every feature key."""

_FORMAT = 1
"""Version of the key; a change that gives the same key other pixels increases it."""


class PixelInputs:
    """uint8 pixels of square images; see `Inputs`.

    Args:
        images: the images, with their encoded bytes.
        preprocessing: preprocessing of the backbone, at the size of its input.
        augmentation: augmentation whose views replace the images; None for the images themselves.
        seed: seed of the views.
    """

    dtype: npt.DTypeLike = np.uint8
    stored = True
    row_s = 5e-5  # time to decode a small image
    batch = BATCH

    def __init__(
        self,
        images: LabelledExamples,
        preprocessing: Preprocessing,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._seed = seed
        size = preprocessing.image_size
        views = (augmentation.num_views,) if augmentation else ()
        self.shape: tuple[int, ...] = (*views, 3, size, size)
        scale = {"mean": preprocessing.mean, "std": preprocessing.std}
        self.key: Mapping[str, Any] = {
            "format": _FORMAT,
            "preprocessing": {k: v for k, v in asdict(preprocessing).items() if k not in scale},
            "pillow": PIL.__version__,
            **({} if images.value_range is None else {"value_range": images.value_range}),
            **({} if augmentation is None else _views_key(augmentation, seed)),
        }
        self.content_key: Mapping[str, Any] = {"pixels": self.key, **scale}

    def rows(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """Return (M, *shape) uint8 pixels of some images, or of their views.

        Args:
            indices: (M,) indices of the images.

        Raises:
            DataError: an image cannot be decoded; the message names its path.
        """
        pixels = (
            decode(self._images, indices, self._preprocessing)
            if self._augmentation is None
            else draw_views(
                self._images,
                indices,
                augmentation=self._augmentation,
                preprocessing=self._preprocessing,
                seed=self._seed,
            )
        )
        found: npt.NDArray[np.uint8] = pixels.numpy()
        return found

    def content(self, rows: Tensor) -> Tensor:
        """Return float32 pixels, normalised by the backbone's mean and standard deviation."""
        return normalize(rows, self._preprocessing)

    def side(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return an empty tuple: networks for images have no side inputs."""
        del indices
        return ()


def _views_key(augmentation: Augmentation, seed: int) -> dict[str, Any]:
    return {
        "views": augmentation.to_json(),
        "seed": seed,
        "torchvision": metadata.version("torchvision"),
    }
