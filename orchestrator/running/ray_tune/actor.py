"""The Tune trainable: one reused process that does one piece of work after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from ray import tune

from orchestrator.planning.work import Event, Work
from orchestrator.running.ray_tune.checkpoint_actor import RemoteCheckpointStore
from orchestrator.running.ray_tune.keys import EVENT, WORK
from orchestrator.running.ray_tune.object_store import ObjectStoreReader, SharedObjects
from orchestrator.running.worker.worker import PROCESS_BROKEN, perform
from trainable.device import limit_memory
from trainable.training.probe import ProbeMemo


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
    """Fine-tunes. From one piece of work to the next it keeps what no work writes to."""

    def setup(self, config: dict[str, Any], shared: SharedObjects | None = None) -> None:
        """Take up the first piece of work, with the processors and the share of a GPU it has."""
        assert shared is not None  # Tune checks the signature before with_parameters binds it
        resources = self.trial_resources
        torch.set_num_threads(max(1, int(resources.head_cpus if resources else 1)))
        limit_memory(resources.required_resources.get("GPU", 0) if resources else 0)
        self._shared = shared
        self._fetcher = ObjectStoreReader(shared)
        self._probes = ProbeMemo()
        super().setup(config)

    def events(self, work: Work) -> Iterator[Event]:
        """The events of fine-tuning, or of a baseline."""
        return perform(
            work,
            images=self._fetcher.images,
            backbone=self._fetcher.backbone,
            cache=self._fetcher.cache,
            probes=self._probes,
            checkpoint_store=RemoteCheckpointStore(self._shared.checkpoint_actor, work),
            checkpoint_s=self._shared.checkpoint_s,
        )
