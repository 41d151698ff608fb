"""The objects that a sweep shares through Ray's object store, and their reader in workers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray

from trainable.backbones import Backbone, Weights
from trainable.backbones.backbone import Form
from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.tokens import TokenTable
from trainable.errors import CacheError
from trainable.features.cache import FeatureCache, open_cache
from trainable.spec.trial_spec import CacheMode


@dataclass(frozen=True)
class SharedObjects:
    """References to the objects that all workers read; the driver keeps them alive.

    Attributes:
        images: reference to the images without their shards.
        shards: references to the shards, (bytes,) uint8 arrays of encoded images.
        weights: references to `Weights`, by backbone.
        graphs: references to each backbone's graphs and tokens; see `Backbone`.
        cache: mode of the feature cache.
        checkpoint_actor: handle of the actor that stores checkpoints and receives heartbeats.
        checkpoint_s: shortest time between two checkpoints, in seconds.
    """

    images: ray.ObjectRef
    shards: tuple[ray.ObjectRef, ...]
    weights: dict[str, ray.ObjectRef]
    graphs: dict[str, ray.ObjectRef]
    cache: CacheMode
    checkpoint_actor: Any
    checkpoint_s: float


def put_objects(
    images: LabelledExamples,
    weights: dict[str, Weights],
    graphs: Mapping[str, Mapping[Form, bytes]],
    tokens: Mapping[str, Mapping[TextPreprocessing, TokenTable]],
    *,
    cache: CacheMode,
    checkpoint_actor: Any,
    checkpoint_s: float,
) -> SharedObjects:
    """Put everything that workers read into the object store.

    Args:
        images: images of the sweep.
        weights: weights by backbone.
        graphs: serialized graphs by backbone; see `Backbone`.
        tokens: tokens of texts by backbone.
        cache: mode of the feature cache.
        checkpoint_actor: handle of the checkpoint actor.
        checkpoint_s: shortest time between two checkpoints, in seconds.
    """
    return SharedObjects(
        images=ray.put(replace(images, shards=())),
        shards=tuple(ray.put(shard) for shard in images.shards),
        weights={name: ray.put(one) for name, one in weights.items()},
        graphs={name: ray.put((one, tokens[name])) for name, one in graphs.items()},
        cache=cache,
        checkpoint_actor=checkpoint_actor,
        checkpoint_s=checkpoint_s,
    )


class ObjectStoreReader:
    """Reads shared objects at first use and keeps them for the process; they are read-only.

    Args:
        shared: references to the objects.
    """

    def __init__(self, shared: SharedObjects) -> None:
        self._shared = shared
        self._images: LabelledExamples | None = None
        self._backbones: dict[str, Backbone] = {}
        self._cache: FeatureCache | None = None
        self._cache_opened = False

    def images(self) -> LabelledExamples:
        """The images of the sweep, their shards memory-mapped."""
        if self._images is None:
            shards = tuple(ray.get(list(self._shared.shards)))
            self._images = replace(ray.get(self._shared.images), shards=shards)
        return self._images

    def backbone(self, name: str) -> Backbone:
        """The backbone of this name, built at its first use."""
        if name not in self._backbones:
            weights, (graphs, tokens) = ray.get(
                [self._shared.weights[name], self._shared.graphs[name]]
            )
            self._backbones[name] = Backbone(weights, graphs, tokens)
        return self._backbones[name]

    def cache(self) -> FeatureCache | None:
        """The feature cache of this node; None if it is off or cannot be opened."""
        if not self._cache_opened:
            self._cache_opened = True
            num_images = int(self.images().is_read().sum())
            try:
                self._cache = open_cache(self._shared.cache, num_images=num_images)
            except CacheError as error:
                print(f"features are not kept: {error}", file=sys.stderr)
        return self._cache
