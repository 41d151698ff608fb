"""The feature cache on disk, and the choice of the boundaries that it stores."""

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
    """The feature store of a sweep, and what decides which boundaries are cached in it.

    Attributes:
        store: the store on this node's disk.
        mode: the search space's setting `cache`.
        speeds: throughput of this machine.
        num_images: number of images that may be asked for: all of the sweep, or where views are
            read those that are labelled, since no others have views.
    """

    store: FeatureStore
    mode: CacheMode
    speeds: Speeds
    num_images: int


def open_cache(
    mode: CacheMode, *, num_images: int, device: torch.device | None = None
) -> FeatureCache | None:
    """Return the feature cache of this node, or None if `mode` is `never`.

    Args:
        mode: the search space's setting `cache`.
        num_images: number of images that the sweep may ask for.
        device: the device that computes features; None for the visible GPU, else the CPU.

    Raises:
        CacheError: the folder of the cache cannot be used.
    """
    if mode is CacheMode.NEVER:
        return None
    store = FeatureStore()
    speeds = speeds_of(store.folder, device=device or default_device())
    return FeatureCache(store=store, mode=mode, speeds=speeds, num_images=num_images)


def cache_levels(cuts: Sequence[Boundary], cache: FeatureCache, *, views: int = 1) -> list[Level]:
    """Return the decision on caching each boundary; see `trainable.features.cost_model.levels`.

    Args:
        cuts: boundaries of a backbone, shallowest first.
        cache: the cache of this node.
        views: rows per image.
    """
    return levels(
        cuts,
        mode=cache.mode,
        speeds=cache.speeds,
        rows=cache.num_images * views,
        max_bytes=cache.store.max_bytes,
    )
