"""What frozen prefixes make of images: each image once, whatever asks for it.

Levels lie on top of each other: pixels (decoded, resized, augmented), then one level for every
boundary of a backbone. A level's rows come from the store where it holds them, else from the
deepest level below that does, and are stored where the cost model says that it pays.

A row is the same to the bit whoever computed it and beside which other images: on a processor
every forward pass has the same number of images, the last one filled up. (Kernels are chosen by
the size of the batch, and those of other sizes round differently.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from torch import Tensor

from trainable.augmentation import Augmentation
from trainable.backbones import Backbone
from trainable.boundaries import Boundary, boundaries
from trainable.costs import Level, Speeds, levels, speeds_of
from trainable.decoding import decode, normalize
from trainable.device import autocast, default_device, describe
from trainable.freezing import FrozenPrefix, frozen_between
from trainable.graphs import TracedBackbone
from trainable.images import LabelledImages
from trainable.spec import CacheMode
from trainable.store import Collection, FeatureStore
from trainable.views import draw_views

BATCH = 16
"""Images per forward pass on a processor; part of what a row is."""
GPU_BATCH = 256

_CHUNK = 256
"""Images whose rows below are held in memory at a time."""
_FORMAT = 1
"""Raised whenever the same key would come to mean other rows."""
_DECODE_S = 5e-5
"""What decoding an image takes at the least, in seconds."""

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """How the features of a sweep are kept.

    Attributes:
        store: where.
        mode: whether.
        speeds: of this machine.
        num_images: that the sweep may ask for.
    """

    store: FeatureStore
    mode: CacheMode
    speeds: Speeds
    num_images: int


def open_cache(
    mode: CacheMode, *, num_images: int, device: torch.device | None = None
) -> FeatureCache | None:
    """The cache of this node, or None where nothing is to be kept.

    Args:
        mode: whether features are kept.
        num_images: that the sweep may ask for.
        device: that features are computed on.

    Raises:
        CacheError: its folder cannot be used.
    """
    if mode is CacheMode.NEVER:
        return None
    store = FeatureStore()
    speeds = speeds_of(store.folder, device=device or default_device())
    return FeatureCache(store=store, mode=mode, speeds=speeds, num_images=num_images)


@dataclass(kw_only=True)
class FeatureCounts:
    """What was asked for, and what it took.

    Attributes:
        hits: rows that were in the store.
        misses: rows that were computed.
        asked_flops: of all rows asked for, from the images on.
        computed_flops: of the forward passes that were made.
    """

    hits: int = 0
    misses: int = 0
    asked_flops: float = 0.0
    computed_flops: float = 0.0


class FeatureReader:
    """The levels of one backbone over one way of looking at images.

    Args:
        images: where the encoded bytes lie.
        backbone: whose prefixes are run.
        image_size: side of its input, in pixels.
        device: to compute on.
        precision: `fp32` or `bf16`.
        cache: where rows are kept; None computes them every time.
        augmentation: its views instead of the images as they are.
        seed: of the views.
        counts: adds up what is done.
    """

    def __init__(
        self,
        images: LabelledImages,
        backbone: Backbone,
        *,
        image_size: int,
        device: torch.device,
        precision: str,
        cache: FeatureCache | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        counts: FeatureCounts | None = None,
    ) -> None:
        self.counts = counts or FeatureCounts()
        self._images = images
        self._backbone = backbone
        self._traced = backbone.traced(image_size)
        self._preprocessing = backbone.weights.preprocessing.resized(image_size)
        self._device = device
        self._precision = precision
        self._cache = None if cache is None or cache.mode is CacheMode.NEVER else cache
        self._augmentation = augmentation
        self._seed = seed
        self._levels: list[Level] = []
        if self._cache is not None:
            self._levels = cache_levels(
                boundaries(self._traced), self._cache, views=self._num_views
            )
        self._cuts = boundaries(self._traced)
        self._collections: dict[int, Collection] = {}

    @property
    def _num_views(self) -> int:
        return self._augmentation.views if self._augmentation else 1

    def row_bytes(self, frozen: int) -> int:
        """Bytes that one image takes in what `read` returns."""
        return 4 * self._num_views * math.prod(self._shape(frozen))

    def read(self, indices: Indices, *, frozen: int) -> Tensor:
        """The activations of some images, or of their views.

        Args:
            indices: (M,) which images.
            frozen: number of boundaries in the prefix; 0 gives normalised pixels.

        Returns:
            (M, *shape) float32 on the device; (M, views, *shape) of views.

        Raises:
            DataError: an image cannot be decoded; the message names its path.
        """
        if not frozen:
            pixels = torch.from_numpy(self._counted(0, indices)).to(self._device)
            return normalize(pixels, self._preprocessing)
        return torch.from_numpy(self._counted(frozen, indices)).to(self._device)

    def _counted(self, level: int, indices: Indices) -> Rows:
        rows, computed = self._rows(level, indices)
        self.counts.hits += len(indices) - computed
        self.counts.misses += computed
        self.counts.asked_flops += len(indices) * self._num_views * self._flops(level)
        return rows

    def _rows(self, level: int, indices: Indices) -> tuple[Rows, int]:
        """Rows of a level, and how many of them were computed."""
        if not self._is_kept(level):
            parts = list(self._computed(level, indices))
            return np.concatenate([self._empty(level), *parts]), len(indices)
        assert self._cache is not None
        speeds = self._cache.speeds

        def patience_s(count: int) -> float:
            each = self._flops(level) / speeds.flops + _DECODE_S
            return count * self._num_views * each

        return self._collection(level).fetch(
            self._images.digests[indices],
            lambda positions: self._computed(level, indices[positions]),
            patience_s=patience_s,
        )

    def _is_kept(self, level: int) -> bool:
        if self._cache is None:
            return False
        if level:
            return self._levels[level - 1].kept
        size = math.prod(self._shape(0)) * self._num_views * self._cache.num_images
        return self._cache.mode is CacheMode.ALWAYS or size <= self._cache.store.max_bytes / 4

    def _computed(self, level: int, indices: Indices) -> Iterator[Rows]:
        """Rows of a level in the order of the indices, part after part."""
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            if not level:
                yield self._decoded(chunk)
                continue
            base = self._deepest_below(level, chunk)
            below, _ = self._rows(base, chunk)
            yield self._forward(base, level, below)

    def _decoded(self, indices: Indices) -> Rows:
        if self._augmentation is None:
            pixels = decode(self._images, indices, self._preprocessing)
        else:
            pixels = draw_views(
                self._images,
                indices,
                augmentation=self._augmentation,
                preprocessing=self._preprocessing,
                seed=self._seed,
            )
        return pixels.numpy()

    def _deepest_below(self, level: int, indices: Indices) -> int:
        """The deepest level below whose rows of all these images are in the store; 0 if none."""
        if self._cache is None:
            return 0
        digests = self._images.digests[indices]
        for below in range(level - 1, 0, -1):
            if self._collection(below).holds(digests).all():
                return below
        return 0

    def _forward(self, base: int, level: int, below: Rows) -> Rows:
        """From rows of one level to those of a deeper one."""
        per_image = below.shape[: 2 if self._augmentation else 1]
        inputs = torch.from_numpy(below).flatten(0, len(per_image) - 1)
        prefix = self._between(base, level)
        size = GPU_BATCH if self._device.type == "cuda" else BATCH
        out = np.empty((len(inputs), *self._shape(level)), dtype=np.float32)
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            count = len(batch)
            if count < size and self._device.type == "cpu":
                batch = torch.cat([batch, batch[:1].expand(size - count, *batch.shape[1:])])
            batch = batch.to(self._device)
            with autocast(self._precision, self._device):
                result = prefix(normalize(batch, self._preprocessing) if not base else batch)
            out[start : start + count] = result[:count].float().cpu().numpy()
        self.counts.computed_flops += len(inputs) * (self._flops(level) - self._flops(base))
        return out.reshape(*per_image, *self._shape(level))

    def _between(self, base: int, level: int) -> FrozenPrefix:
        start = self._cuts[base - 1] if base else None
        return frozen_between(self._traced, start, self._cuts[level - 1]).to(self._device)

    def _shape(self, level: int) -> tuple[int, ...]:
        if level:
            return self._cuts[level - 1].shape
        return 3, self._preprocessing.image_size, self._preprocessing.image_size

    def _flops(self, level: int) -> float:
        return self._cuts[level - 1].flops if level else 0.0

    def _empty(self, level: int) -> Rows:
        views = (self._num_views,) if self._augmentation else ()
        return np.empty((0, *views, *self._shape(level)), np.float32 if level else np.uint8)

    def _collection(self, level: int) -> Collection:
        if level not in self._collections:
            assert self._cache is not None
            none = self._empty(level)
            self._collections[level] = self._cache.store.collection(
                self._key(level), shape=none.shape[1:], dtype=none.dtype
            )
        return self._collections[level]

    def _key(self, level: int) -> dict[str, Any]:
        """Everything that a row depends on beside the content of its image."""
        preprocessing = asdict(self._preprocessing)
        scale = {name: preprocessing.pop(name) for name in ("mean", "std")}
        key: dict[str, Any] = {
            "format": _FORMAT,
            "preprocessing": preprocessing,
            "pillow": PIL.__version__,
            "torchvision": torchvision.__version__,
        }
        if self._augmentation is not None:
            key |= {"views": self._augmentation.to_json(), "seed": self._seed}
        if level:
            weights = self._backbone.weights
            key |= {
                "boundary": self._cuts[level - 1].node,
                "backbone": weights.architecture,
                "weights": weights.digest,
                "graph": _graph_digest(self._traced),
                "scale": scale,
                "precision": self._precision,
                "device": describe(self._device),
                "batch": GPU_BATCH if self._device.type == "cuda" else BATCH,
                "torch": torch.__version__,
            }
        return key


def cache_levels(cuts: Sequence[Boundary], cache: FeatureCache, *, views: int = 1) -> list[Level]:
    """Which boundaries a sweep keeps; see `trainable.costs.levels`."""
    return levels(
        cuts,
        mode=cache.mode,
        speeds=cache.speeds,
        rows=cache.num_images * views,
        max_bytes=cache.store.max_bytes,
    )


_digests: WeakKeyDictionary[TracedBackbone, str] = WeakKeyDictionary()


def _graph_digest(traced: TracedBackbone) -> str:
    """Hash of what a backbone computes, its weights aside."""
    if traced not in _digests:
        text = json.dumps([traced.module.code, str(traced.module)])
        _digests[traced] = hashlib.sha256(text.encode()).hexdigest()
    return _digests[traced]
