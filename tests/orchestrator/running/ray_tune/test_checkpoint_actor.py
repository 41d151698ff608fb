"""The checkpoint actor's class, in this process; other tests use the actor in real sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.running.ray_tune.checkpoint_actor import CheckpointActor
from orchestrator.running.worker.checkpoints import Saved
from tests.builders.programs import printed_by

FIRST, SECOND = Saved("{}", b"first"), Saved("{}", b"second")


def test_an_attempt_gets_the_checkpoint_of_the_previous_one(tmp_path: Path) -> None:
    checkpoint_actor = CheckpointActor(tmp_path / "checkpoints")
    assert checkpoint_actor.load("b2-0000", 0) is None
    assert checkpoint_actor.save("b2-0000", 0, FIRST)
    assert checkpoint_actor.load("b2-0000", 1) == FIRST
    assert checkpoint_actor.load("b2-0001", 0) is None


def test_messages_of_a_superseded_attempt_are_ignored(tmp_path: Path) -> None:
    checkpoint_actor = CheckpointActor(tmp_path / "checkpoints")
    checkpoint_actor.load("b2-0000", 1)
    assert not checkpoint_actor.save("b2-0000", 0, FIRST)
    assert checkpoint_actor.save("b2-0000", 1, SECOND)
    assert not checkpoint_actor.save("b2-0000", 0, FIRST)
    assert checkpoint_actor.load("b2-0000", 2) == SECOND


def test_late_messages_of_ended_work_leave_nothing_behind(tmp_path: Path) -> None:
    checkpoint_actor = CheckpointActor(tmp_path / "checkpoints")
    checkpoint_actor.save("b2-0000", 0, FIRST)
    checkpoint_actor.remove("b2-0000")
    assert not checkpoint_actor.save("b2-0000", 0, SECOND)
    checkpoint_actor.heartbeat("b2-0000", 0)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert checkpoint_actor.silence() == {}


def test_every_message_ends_the_silence_of_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    checkpoint_actor = CheckpointActor(tmp_path)
    checkpoint_actor.load("b2-0000", 0)
    checkpoint_actor.heartbeat("b2-0001", 1)
    now[0] = 15.0
    checkpoint_actor.heartbeat("b2-0001", 1)
    checkpoint_actor.heartbeat("b2-0001", 0)  # a heartbeat of a superseded attempt
    now[0] = 16.0
    assert checkpoint_actor.silence() == {"b2-0000": 6.0, "b2-0001": 1.0}


def test_a_checkpoint_that_cannot_be_written_is_lost_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")
    checkpoint_actor = CheckpointActor(tmp_path / "checkpoints")
    assert not checkpoint_actor.save("b2-0000", 0, FIRST)
    assert checkpoint_actor.load("b2-0000", 1) is None


def test_the_process_of_the_actor_does_not_import_torch() -> None:
    code = (
        "import sys, orchestrator.running.ray_tune.checkpoint_actor; print('torch' in sys.modules)"
    )
    assert printed_by(code) == "False"
