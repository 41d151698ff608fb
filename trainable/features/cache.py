"""The on-disk feature cache and which boundaries it stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainable.backbones.cutting.boundaries import Boundary
from trainable.device import default_device
from trainable.features.cost_model import Level, Speeds, levels, speeds_of
from trainable.features.store import FeatureStore
from trainable.spec.trial_spec import CacheMode


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """The feature store of a sweep and the boundaries cached in it.

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


def cache_levels(cuts: Sequence[Boundary], cache: FeatureCache, *, views: int = 1) -> list[Level]:
    """Boundaries that a sweep caches; see `trainable.features.cost_model.levels`."""
    return levels(
        cuts,
        mode=cache.mode,
        speeds=cache.speeds,
        rows=cache.num_images * views,
        max_bytes=cache.store.max_bytes,
    )
