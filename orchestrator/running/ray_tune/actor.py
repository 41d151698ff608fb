"""The Tune trainable: a reused process that does one piece of work after another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from orchestrator.garbage_collection import collecting_no_garbage

with collecting_no_garbage():  # this module is the first that the process of a trial imports
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
    """Does the work in its config and returns one event per step; subclasses define `events`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the first piece of work."""
        self._broken = False
        self._events = self.events(Work.from_text(config[WORK]))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next piece of work in this process; exit if the process is broken."""
        if self._broken:
            os._exit(1)  # Tune retries the work in another process
        self._events = self.events(Work.from_text(new_config[WORK]))
        return True

    def step(self) -> dict[str, Any]:
        """Return the next event; an exception becomes the last one, because Tune would retry."""
        try:
            event = next(self._events)
        except Exception as error:
            event = Event(run={}, failure=f"{type(error).__name__}: {error}", done=True)
        self._broken = bool(event.run.get(PROCESS_BROKEN))
        return {EVENT: event.to_text(), "done": event.done}

    def events(self, work: Work) -> Iterator[Event]:
        """Yield the events of a piece of work; the last one is `done`."""
        raise NotImplementedError


class FineTuneActor(SweepActor):
    """Does trials, finals and baselines; only read-only data is kept between pieces of work."""

    def setup(self, config: dict[str, Any], shared: SharedObjects | None = None) -> None:
        """Limit torch to the actor's CPUs and GPU fraction, and start the first piece of work."""
        assert shared is not None  # Tune checks the signature before with_parameters binds it
        resources = self.trial_resources
        torch.set_num_threads(max(1, int(resources.head_cpus if resources else 1)))
        limit_memory(resources.required_resources.get("GPU", 0) if resources else 0)
        self._shared = shared
        self._reader = ObjectStoreReader(shared)
        self._probes = ProbeMemo()
        super().setup(config)

    def events(self, work: Work) -> Iterator[Event]:
        """Yield the events of a trial, a final or a baseline; see `perform`."""
        return perform(
            work,
            images=self._reader.images,
            backbone=self._reader.backbone,
            cache=self._reader.cache,
            probes=self._probes,
            checkpoint_store=RemoteCheckpointStore(self._shared.checkpoint_actor, work),
            checkpoint_s=self._shared.checkpoint_s,
        )
