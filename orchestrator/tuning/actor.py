"""The Tune trainable: one reused process that does one piece of work after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray import tune

from orchestrator.tuning.algorithms import EVENT
from orchestrator.tuning.attempts import WORK
from orchestrator.tuning.keeper import RemoteKeeping
from orchestrator.work import Event, Work
from orchestrator.worker import PROCESS_BROKEN, perform
from trainable.backbones import Backbone, Weights
from trainable.errors import CacheError
from trainable.images import LabelledImages
from trainable.keeping import FeatureCache, open_cache
from trainable.spec import CacheMode


@dataclass(frozen=True)
class Shared:
    """What all actors map from the object store; the driver holds the references.

    Attributes:
        images: reference to the images without their shards.
        shards: references to the arrays of encoded bytes.
        weights: references to `Weights` by backbone.
        cache: whether features are kept on the node.
        keeper: handle of the actor that keeps checkpoints and hears signs of life.
        checkpoint_s: seconds between two checkpoints.
    """

    images: ray.ObjectRef
    shards: tuple[ray.ObjectRef, ...]
    weights: dict[str, ray.ObjectRef]
    cache: CacheMode
    keeper: Any
    checkpoint_s: float


def share(
    images: LabelledImages,
    weights: dict[str, Weights],
    *,
    cache: CacheMode,
    keeper: Any,
    checkpoint_s: float,
) -> Shared:
    """Put everything that trials read into the object store."""
    return Shared(
        images=ray.put(replace(images, shards=())),
        shards=tuple(ray.put(shard) for shard in images.shards),
        weights={name: ray.put(one) for name, one in weights.items()},
        cache=cache,
        keeper=keeper,
        checkpoint_s=checkpoint_s,
    )


class SweepActor(tune.Trainable):
    """Does the work in its config, one event a step. Subclasses say what doing it means."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the first piece of work."""
        self._broken = False
        self._events = self.events(Work.from_text(config[WORK]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up the next piece of work; the process stays, unless it is broken."""
        if self._broken:
            os._exit(1)  # the work is tried again in another one
        self._events = self.events(Work.from_text(new_config[WORK]))
        return True

    def step(self) -> dict[str, Any]:
        """The next event of the work; an exception is its last one, for Tune would try again."""
        try:
            event = next(self._events)
        except Exception as error:
            event = Event(run={}, failure=f"{type(error).__name__}: {error}", done=True)
        self._broken = bool(event.run.get(PROCESS_BROKEN))
        return {EVENT: event.to_text(), "done": event.done}

    def events(self, work: Work) -> Iterator[Event]:
        """The events of a piece of work, the last one `done`; nothing may escape it."""
        raise NotImplementedError


class FineTuneActor(SweepActor):
    """Fine-tunes. From one piece of work to the next it keeps what no work writes to.

    That is the images and the backbones, mapped and built once a process.
    """

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        """Take up the first piece of work, with as many threads as the trial has processors."""
        assert shared is not None  # Tune checks the signature before with_parameters binds it
        resources = self.trial_resources
        torch.set_num_threads(max(1, int(resources.head_cpus if resources else 1)))
        self._shared = shared
        self._images: LabelledImages | None = None
        self._backbones: dict[str, Backbone] = {}
        self._cache: FeatureCache | None = None
        self._cache_opened = False
        super().setup(config)

    def events(self, work: Work) -> Iterator[Event]:
        """The events of fine-tuning, or of a baseline."""
        return perform(
            work,
            images=self._fetch_images,
            backbone=self._fetch_backbone,
            cache=self._fetch_cache,
            keeping=RemoteKeeping(self._shared.keeper, work),
            checkpoint_s=self._shared.checkpoint_s,
        )

    def _fetch_images(self) -> LabelledImages:
        if self._images is None:
            shards = tuple(ray.get(list(self._shared.shards)))
            self._images = replace(ray.get(self._shared.images), shards=shards)
        return self._images

    def _fetch_cache(self) -> FeatureCache | None:
        if not self._cache_opened:
            self._cache_opened = True
            num_images = int(self._fetch_images().is_read().sum())
            try:
                self._cache = open_cache(self._shared.cache, num_images=num_images)
            except CacheError as error:
                print(f"features are not kept: {error}", file=sys.stderr)
        return self._cache

    def _fetch_backbone(self, name: str) -> Backbone:
        if name not in self._backbones:
            self._backbones[name] = Backbone(ray.get(self._shared.weights[name]))
        return self._backbones[name]
