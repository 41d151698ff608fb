"""Checkpoints of running work: their schedule, and the files of the newest ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.throttle import Throttled
from trainable.atomic_files import atomic_write, failpoint

if TYPE_CHECKING:  # it imports torch, which the checkpoint actor does not need
    from trainable.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Saved:
    """A serialized checkpoint; see `trainable.training.checkpoint.Checkpoint.to_files`.

    Attributes:
        values: JSON text of one line.
        tensors: bytes in safetensors format.
    """

    values: str
    tensors: bytes


class CheckpointStore(Protocol):
    """Where a worker sends checkpoints and heartbeats. No method may raise."""

    def load(self) -> Saved | None:
        """The newest checkpoint of the work, or None."""

    def save(self, saved: Saved) -> None:
        """Replace the previous checkpoint by this one."""

    def heartbeat(self) -> None:
        """Report that the work is making progress."""


class NoCheckpoints:
    """A store that keeps nothing, for work that is never resumed."""

    def load(self) -> Saved | None:
        """Always None."""
        return None

    def save(self, saved: Saved) -> None:
        """Do nothing."""

    def heartbeat(self) -> None:
        """Do nothing."""


def checkpointing(
    checkpoint_store: CheckpointStore,
    *,
    every_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Throttled[[Callable[[], Checkpoint]]]:
    """A rate-limited function that saves a checkpoint, to be called after every update.

    The first checkpoint is due after `every_s`, so work that is shorter saves none.

    Args:
        checkpoint_store: receives the checkpoints.
        every_s: shortest time between two checkpoints, in seconds.
        clock: monotonic clock, in seconds.

    Returns:
        A function of one argument: a function that returns the current checkpoint. It is called
        only if a checkpoint is due.
    """
    return Throttled(
        lambda state: checkpoint_store.save(Saved(*state().to_files())),
        every_s=every_s,
        clock=clock,
    )


class CheckpointFolder:
    """A folder with the newest checkpoint of each running piece of work, one file each.

    A file holds one line of JSON, then safetensors.

    Args:
        path: path of the folder; it is made with the first checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, work_id: str, saved: Saved) -> None:
        """Replace the checkpoint of a piece of work atomically.

        Raises:
            OSError: the file cannot be written; the previous checkpoint stays.
        """
        self._path.mkdir(exist_ok=True)
        with atomic_write(self._file(work_id)) as sink:
            sink.write(saved.values.encode() + b"\n")
            sink.write(saved.tensors)

    def load(self, work_id: str) -> Saved | None:
        """The newest checkpoint, or None; its contents are not validated."""
        try:
            content = self._file(work_id).read_bytes()
        except OSError:
            return None
        values, _, tensors = content.partition(b"\n")
        return Saved(values.decode(errors="replace"), tensors)

    def remove(self, work_id: str) -> None:
        """Delete the checkpoint of a piece of work, if there is one."""
        self._file(work_id).unlink(missing_ok=True)
        failpoint(f"{work_id}: checkpoint removed")

    def clear(self) -> None:
        """Delete the folder with all checkpoints, partly written temporary files included."""
        if self._path.is_dir():
            for file in self._path.iterdir():
                file.unlink(missing_ok=True)
                failpoint(f"{file.name}: removed")
            self._path.rmdir()

    def _file(self, work_id: str) -> Path:
        return self._path / f"{work_id.replace('/', '-repeat')}.checkpoint"
