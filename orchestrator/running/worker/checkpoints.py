"""Checkpoints of work that is out: when one is due, and the files that hold the newest of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.throttle import Throttled
from trainable.atomic_files import atomic_write, failpoint

if TYPE_CHECKING:  # it brings torch, which the process that keeps checkpoints has no use for
    from trainable.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it is stored; see `trainable.training.checkpoint.Checkpoint.to_files`.

    Attributes:
        values: JSON text, one line.
        tensors: safetensors.
    """

    values: str
    tensors: bytes


class CheckpointStore(Protocol):
    """Where a worker leaves checkpoints and signs of life. Nothing here may raise."""

    def load(self) -> Saved | None:
        """The newest checkpoint of the work, or None."""

    def save(self, saved: Saved) -> None:
        """Keep this in place of the one before."""

    def heartbeat(self) -> None:
        """Note that the work is alive."""


class NoCheckpoints:
    """Keeps nothing, for work that nobody takes up again."""

    def load(self) -> Saved | None:
        """Nothing."""
        return None

    def save(self, saved: Saved) -> None:
        """Nothing."""

    def heartbeat(self) -> None:
        """Nothing."""


def checkpointing(
    checkpoint_store: CheckpointStore,
    *,
    every_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Throttled[[Callable[[], Checkpoint]]]:
    """What saves a piece of work when it is time to, so that short work never is.

    Args:
        checkpoint_store: takes the checkpoints.
        every_s: shortest time between two checkpoints, in seconds.
        clock: seconds that only rise.

    Returns:
        Called after every update with what gives the present state.
    """
    return Throttled(
        lambda state: checkpoint_store.save(Saved(*state().to_files())),
        every_s=every_s,
        clock=clock,
    )


class CheckpointFolder:
    """The newest checkpoint of each piece of work that is out, one file each.

    A file is a line of JSON, then safetensors.

    Args:
        path: of the directory; made when the first checkpoint is saved.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, work_id: str, saved: Saved) -> None:
        """Put a checkpoint in the place of the one before, whole or not at all.

        Raises:
            OSError: it cannot be written; the one before stays.
        """
        self._path.mkdir(exist_ok=True)
        with atomic_write(self._file(work_id)) as sink:
            sink.write(saved.values.encode() + b"\n")
            sink.write(saved.tensors)

    def load(self, work_id: str) -> Saved | None:
        """The newest checkpoint; None where there is none. What it holds is not checked here."""
        try:
            content = self._file(work_id).read_bytes()
        except OSError:
            return None
        values, _, tensors = content.partition(b"\n")
        return Saved(values.decode(errors="replace"), tensors)

    def remove(self, work_id: str) -> None:
        """Forget the checkpoint of a piece of work."""
        self._file(work_id).unlink(missing_ok=True)
        failpoint(f"{work_id}: checkpoint removed")

    def clear(self) -> None:
        """Forget all of them, and what a death left half written."""
        if self._path.is_dir():
            for file in self._path.iterdir():
                file.unlink(missing_ok=True)
                failpoint(f"{file.name}: removed")
            self._path.rmdir()

    def _file(self, work_id: str) -> Path:
        return self._path / f"{work_id.replace('/', '-repeat')}.checkpoint"
