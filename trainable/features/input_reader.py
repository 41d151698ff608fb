"""The lowest level of the cache: decoded pixels, or augmented views, each image once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import fits
from trainable.micro_batches import nothing
from trainable.modalities.image.preprocessing import decode
from trainable.modalities.image.views import draw_views
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import CacheMode

DECODE_S = 5e-5
"""What decoding an image takes at the least, in seconds."""

_CHUNK = 256
"""Images decoded at a time."""
_FORMAT = 1
"""Raised whenever the same key would come to mean other pixels."""


class PixelReader:
    """Pixels of some images as one backbone sees them, before they are scaled.

    Args:
        images: where the encoded bytes lie.
        preprocessing: sizes, interpolation and squash are read.
        cache: where rows are kept; None decodes them every time.
        augmentation: its views instead of the images as they are.
        seed: of the views.
        heartbeat: called after every chunk of images, as a sign of life.

    Attributes:
        key: JSON values that pixels depend on, the content of the image aside.
        shape: of a row.
    """

    def __init__(
        self,
        images: LabelledExamples,
        preprocessing: Preprocessing,
        *,
        cache: FeatureCache | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._seed = seed
        self._heartbeat = heartbeat
        size = preprocessing.image_size
        self.shape = (*((augmentation.views,) if augmentation else ()), 3, size, size)
        about = asdict(preprocessing)
        self.key: dict[str, Any] = {
            "format": _FORMAT,
            "preprocessing": {k: v for k, v in about.items() if k not in ("mean", "std")},
            "pillow": PIL.__version__,
        }
        if images.value_range is not None:
            self.key["value_range"] = images.value_range
        if augmentation is not None:
            self.key |= {
                "views": augmentation.to_json(),
                "seed": seed,
                "torchvision": metadata.version("torchvision"),
            }
        kept = cache is not None and _is_kept(cache, math.prod(self.shape))
        self._collection = (
            cache.store.collection(self.key, shape=self.shape, dtype=np.uint8)
            if cache is not None and kept
            else None
        )

    def read(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], int]:
        """(M, *shape) uint8 pixels, and how many of the images were decoded for them.

        Raises:
            DataError: an image cannot be decoded; the message names its path.
        """
        if self._collection is None:
            none = np.empty((0, *self.shape), dtype=np.uint8)
            return np.concatenate([none, *self._decoded(indices)]), len(indices)
        return self._collection.fetch(
            self._images.digests[indices],
            lambda positions: self._decoded(indices[positions]),
            patience_s=lambda count: count * DECODE_S,
            heartbeat=self._heartbeat,
        )

    def _decoded(self, indices: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            if self._augmentation is None:
                yield decode(self._images, chunk, self._preprocessing).numpy()
            else:
                yield draw_views(
                    self._images,
                    chunk,
                    augmentation=self._augmentation,
                    preprocessing=self._preprocessing,
                    seed=self._seed,
                ).numpy()
            self._heartbeat()


def _is_kept(cache: FeatureCache, row_bytes: int) -> bool:
    """Reading pixels is always cheaper than decoding; they may only be too many."""
    if cache.mode is CacheMode.AUTO:
        return fits(row_bytes, rows=cache.num_images, max_bytes=cache.store.max_bytes)
    return cache.mode is CacheMode.ALWAYS
