"""The actor on the driver's node that stores checkpoints and receives heartbeats.

It keeps both off the driver's loop, and stores checkpoints of workers on machines that cannot see
the sweep's directory.
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
from orchestrator.throttle import Throttled

HEARTBEAT_S = 5.0
"""Shortest time between two heartbeats of a worker, in seconds."""

LOAD_TIMEOUT_S = 60.0
"""How long a worker waits for its checkpoint; then it starts from scratch. In seconds."""


class CheckpointActor:
    """Stores checkpoints in a folder, and the time of each piece of work's last heartbeat.

    Messages of ended work and of superseded attempts are ignored: a process that lost its
    connection may reconnect.

    Args:
        folder: folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = CheckpointFolder(folder)
        self._lock = threading.Lock()
        self._attempts: dict[str, int] = {}
        self._ended: set[str] = set()
        self._last_heard: dict[str, float] = {}

    def load(self, work_id: str, attempt: int) -> Saved | None:
        """The newest checkpoint for a starting attempt; None if there is none or it is outdated."""
        with self._lock:
            return self._folder.load(work_id) if self._accepts(work_id, attempt) else None

    def save(self, work_id: str, attempt: int, saved: Saved) -> bool:
        """Store a checkpoint; return whether it was stored."""
        with self._lock:
            if not self._accepts(work_id, attempt):
                return False
            try:
                self._folder.save(work_id, saved)
            except OSError:  # such as a full disk; the work goes on without it
                return False
        return True

    def heartbeat(self, work_id: str, attempt: int) -> None:
        """Note the time of an attempt's heartbeat."""
        self._accepts(work_id, attempt)

    def remove(self, work_id: str) -> None:
        """Delete the checkpoint of ended work, and ignore its further messages."""
        with self._lock:
            self._ended.add(work_id)
            self._last_heard.pop(work_id, None)
            self._folder.remove(work_id)

    def silence(self) -> dict[str, float]:
        """Seconds since the last message of each piece of work, by work id."""
        now = time.monotonic()
        return {work_id: now - heard for work_id, heard in list(self._last_heard.items())}

    def _accepts(self, work_id: str, attempt: int) -> bool:
        """Whether this is the newest attempt of running work; if so, note the time."""
        if work_id in self._ended or attempt < self._attempts.get(work_id, 0):
            return False
        self._attempts[work_id] = attempt
        self._last_heard[work_id] = time.monotonic()
        return True


def start_checkpoint_actor(folder: Path) -> Any:
    """Start the actor on this node; it restarts after a crash and ends with its handle.

    Args:
        folder: folder of the checkpoints.

    Returns:
        The handle of the actor.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(CheckpointActor)
        .options(num_cpus=0, max_restarts=-1, max_concurrency=4, scheduling_strategy=here)
        .remote(folder)
    )


class RemoteCheckpointStore:
    """The `CheckpointStore` of one attempt; it sends everything to the checkpoint actor.

    Args:
        checkpoint_actor: handle of the actor.
        work: the work with its attempt number.
    """

    def __init__(self, checkpoint_actor: Any, work: Work) -> None:
        self._checkpoint_actor = checkpoint_actor
        self._place = (work.work_id, work.attempt)
        self._saving: ray.ObjectRef | None = None
        self._heartbeat = Throttled(self._send_heartbeat, every_s=HEARTBEAT_S, at_once=True)

    def load(self) -> Saved | None:
        """The newest checkpoint of the work; None without one or without an answer."""
        try:
            saved = ray.get(
                self._checkpoint_actor.load.remote(*self._place), timeout=LOAD_TIMEOUT_S
            )
        except RayError:
            return None
        return saved if isinstance(saved, Saved) else None

    def save(self, saved: Saved) -> None:
        """Send a checkpoint, unless the previous one is still being sent."""
        if self._saving is not None and not ray.wait([self._saving], timeout=0)[0]:
            return
        self._saving = self._checkpoint_actor.save.remote(*self._place, saved)

    def heartbeat(self) -> None:
        """Send a heartbeat, at most every `HEARTBEAT_S` seconds."""
        self._heartbeat()

    def _send_heartbeat(self) -> None:
        self._checkpoint_actor.heartbeat.remote(*self._place)
