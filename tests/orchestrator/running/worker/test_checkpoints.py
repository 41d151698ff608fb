from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orchestrator.running.worker.checkpoints import CheckpointFolder, Saved, checkpointing
from orchestrator.throttle import Throttled
from trainable.errors import CheckpointError
from trainable.training.checkpoint import Checkpoint


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A store that records checkpoints; saving takes some seconds of the clock."""

    def __init__(self, clock: Clock, *, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.saved: list[Saved] = []

    def load(self) -> Saved | None:
        return None

    def save(self, saved: Saved) -> None:
        self.clock.now += self.takes_s
        self.saved.append(saved)

    def heartbeat(self) -> None:
        raise AssertionError("nobody asked for this")


def state() -> Checkpoint:
    return Checkpoint({"step": 3}, {"weight": torch.arange(4.0)})


def never() -> Checkpoint:
    raise AssertionError("a state is costly; nobody should have asked for it")


def passing(
    save: Throttled[[Callable[[], Checkpoint]]],
    clock: Clock,
    *,
    seconds: int,
    take: Callable[[], Checkpoint],
) -> None:
    for _ in range(seconds):
        clock.now += 1
        save(take)


def test_work_that_is_shorter_than_the_interval_is_never_saved() -> None:
    clock = Clock()
    kept = Kept(clock)
    passing(checkpointing(kept, every_s=60, clock=clock), clock, seconds=59, take=never)
    assert kept.saved == []


def test_longer_work_is_saved_once_per_interval() -> None:
    clock = Clock()
    kept = Kept(clock)
    passing(checkpointing(kept, every_s=60, clock=clock), clock, seconds=185, take=state)
    assert len(kept.saved) == 3
    found = Checkpoint.from_files(kept.saved[0].values, kept.saved[0].tensors)
    assert found.values == {"step": 3}
    assert torch.equal(found.tensors["weight"], torch.arange(4.0))


def test_checkpoints_that_take_long_are_made_less_often() -> None:
    clock = Clock()
    kept = Kept(clock, takes_s=30)
    passing(checkpointing(kept, every_s=60, clock=clock), clock, seconds=60 + 599, take=state)
    assert len(kept.saved) == 1  # the next one is due after twenty times the time of saving
    passing(checkpointing(kept, every_s=60, clock=clock), clock, seconds=60, take=state)
    assert len(kept.saved) == 2


def test_a_folder_gives_the_newest_checkpoint_of_each_piece_of_work(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load("b2-0000") is None
    for work_id in ("b2-0000", "b2-0000/1", "b2-0000/10"):
        for number in range(2):
            folder.save(work_id, Saved(f'{{"of": "{work_id}", "number": {number}}}', b"\n\0\n"))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3
    assert folder.load("b2-0000/1") == Saved('{"of": "b2-0000/1", "number": 1}', b"\n\0\n")
    folder.remove("b2-0000/1")
    folder.remove("b2-0000/1")
    assert folder.load("b2-0000/1") is None
    assert folder.load("b2-0000/10") is not None
    folder.clear()
    folder.clear()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("kept", [0, 1, 20, 200])
def test_an_incomplete_file_is_no_checkpoint_and_no_crash(tmp_path: Path, kept: int) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save("b2-0000", Saved(*state().to_files()))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    found = folder.load("b2-0000")
    assert found is not None
    with pytest.raises(CheckpointError, match="start from scratch"):
        Checkpoint.from_files(found.values, found.tensors)
