"""The actor beside the driver that keeps what running work must not lose: its checkpoints.

It hears signs of life, too. It takes both off the driver's loop, and gives workers on machines
that do not have the sweep's directory a place to leave them.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.planning.work import Work
from orchestrator.running.worker.checkpoints import CheckpointFolder, Saved

BEAT_S = 5.0
"""Shortest time between two signs of life of a worker, in seconds."""

LOAD_TIMEOUT_S = 60.0
"""How long a worker waits for its checkpoint before it starts from scratch, in seconds."""


class CheckpointActor:
    """Keeps checkpoints in a folder, and when each piece of work was last heard of.

    Work that has ended, and an attempt that another one followed, are not listened to any more: a
    process that was cut off from the rest may come back.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = CheckpointFolder(folder)
        self._lock = threading.Lock()
        self._attempts: dict[str, int] = {}
        self._ended: set[str] = set()
        self._heard: dict[str, float] = {}

    def load(self, work_id: str, attempt: int) -> Saved | None:
        """The newest checkpoint, for an attempt that begins."""
        with self._lock:
            return self._folder.load(work_id) if self._hears(work_id, attempt) else None

    def save(self, work_id: str, attempt: int, saved: Saved) -> bool:
        """Keep a checkpoint; whether it was kept."""
        with self._lock:
            if not self._hears(work_id, attempt):
                return False
            try:
                self._folder.save(work_id, saved)
            except OSError:  # no room, for one: the work goes on, and may lose more
                return False
        return True

    def heartbeat(self, work_id: str, attempt: int) -> None:
        """Note that an attempt is alive."""
        self._hears(work_id, attempt)

    def remove(self, work_id: str) -> None:
        """Forget work that has ended."""
        with self._lock:
            self._ended.add(work_id)
            self._heard.pop(work_id, None)
            self._folder.remove(work_id)

    def silence(self) -> dict[str, float]:
        """Seconds since each piece of work was heard of."""
        now = time.monotonic()
        return {work_id: now - heard for work_id, heard in list(self._heard.items())}

    def _hears(self, work_id: str, attempt: int) -> bool:
        """Whether this attempt is the newest one of work that is out; notes when it is."""
        if work_id in self._ended or attempt < self._attempts.get(work_id, 0):
            return False
        self._attempts[work_id] = attempt
        self._heard[work_id] = time.monotonic()
        return True


def start_checkpoint_actor(folder: Path) -> Any:
    """A handle of a new actor on this machine, which lives as long as the handle and restarts."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(CheckpointActor)
        .options(num_cpus=0, max_restarts=-1, max_concurrency=4, scheduling_strategy=here)
        .remote(folder)
    )


class RemoteCheckpointStore:
    """The `CheckpointStore` of one attempt, kept by the actor beside the driver.

    Args:
        checkpoint_actor: handle of the actor.
        work: the attempt.
    """

    def __init__(self, checkpoint_actor: Any, work: Work) -> None:
        self._checkpoint_actor = checkpoint_actor
        self._place = (work.work_id, work.attempt)
        self._saving: ray.ObjectRef | None = None
        self._next_beat = 0.0

    def load(self) -> Saved | None:
        """The newest checkpoint of the work, or None."""
        try:
            saved = ray.get(
                self._checkpoint_actor.load.remote(*self._place), timeout=LOAD_TIMEOUT_S
            )
        except RayError:
            return None
        return saved if isinstance(saved, Saved) else None

    def save(self, saved: Saved) -> None:
        """Send a checkpoint, unless the one before is still on its way."""
        if self._saving is not None and not ray.wait([self._saving], timeout=0)[0]:
            return
        self._saving = self._checkpoint_actor.save.remote(*self._place, saved)

    def heartbeat(self) -> None:
        """Send a sign of life, not too often."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._checkpoint_actor.heartbeat.remote(*self._place)
            self._next_beat = now + BEAT_S
