"""Retries of attempts, decided by Ray's messages about lost processes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.work import Failure, Kind, Loss, Work
from orchestrator.running.ray_tune.attempts import MAX_RETRIES, Attempts, NotStartedError
from orchestrator.running.ray_tune.keys import WORK
from orchestrator.space import LimitsSection

PLAIN = "The actor died unexpectedly before finishing this task."
GONE = "The actor died because its node has died. Node Id: ab\n\tthe actor's node was "


class Broker:
    """A broker that records retries and requeued work."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.taken_back: list[str] = []
        self.losses: list[tuple[str, Loss]] = []
        self.settled: list[tuple[str, Loss]] = []

    def note_loss(self, work_id: str, loss: Loss) -> None:
        self.losses.append((work_id, loss))

    def settle(self, work_id: str, *, loss: Loss) -> None:
        self.settled.append((work_id, loss))

    def retry(self, work_id: str, *, reason: str) -> None:
        self.reasons.append(reason)

    def requeue(self, work_id: str) -> None:
        self.taken_back.append(work_id)


@dataclass
class Trial:
    """The attributes of a Tune trial that the code reads."""

    error_file: str
    config: dict[str, Any] = field(
        default_factory=lambda: {
            WORK: Work(kind=Kind.TRIAL, study="b2", trial_id="b2-0000", task={}).to_text()
        }
    )
    max_failures: int = MAX_RETRIES

    def should_recover(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("message", "reason", "retries_left"),
    [
        (PLAIN, Failure.WORKER_LOST, MAX_RETRIES),
        (f"{GONE}terminated unexpectedly: no heartbeat", Failure.WORKER_LOST, MAX_RETRIES),
        (f"{GONE}preempted: wanted back", Failure.WORKER_LOST, MAX_RETRIES + 1),
        (f"{GONE}terminated expectedly: idle", Failure.WORKER_LOST, MAX_RETRIES + 1),
        ("the node was running low on memory", Failure.HOST_OOM, MAX_RETRIES),
    ],
)
def test_only_the_planned_removal_of_a_node_costs_no_retry(
    tmp_path: Path, message: str, reason: Failure, retries_left: int
) -> None:
    file = tmp_path / "error.txt"
    older = f"Failure # 1 (occurred at noon)\n{GONE}preempted: wanted back\n"
    file.write_text(f"{older}Failure # 2 (occurred at one)\n{message}\n")
    broker, trial = Broker(), Trial(str(file))
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    attempts.add(trial)
    attempts.begin(trial)
    attempts.fail(trial)
    attempts.add(trial)
    assert broker.reasons == [f"{reason}: {message.splitlines()[-1].strip()}"]
    assert trial.max_failures == retries_left


def test_the_log_has_the_end_of_rays_message_about_a_lost_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "error.txt"
    file.write_text("Failure # 1 (occurred at noon)\n" + "more\n" * 20 + "ImportError: no pets\n")
    attempts = Attempts(Broker(), None, LimitsSection())  # type: ignore[arg-type]
    trial = Trial(str(file))
    attempts.add(trial)
    attempts.begin(trial)
    attempts.fail(trial)
    assert caplog.messages[-1].startswith("b2-0000: worker_lost:\n")
    assert caplog.messages[-1].endswith("ImportError: no pets")
    assert caplog.messages[-1].count("more") < 10


def test_a_process_without_an_error_file_is_lost(tmp_path: Path) -> None:
    broker, trial = Broker(), Trial(str(tmp_path / "nothing"))
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    attempts.add(trial)
    attempts.begin(trial)
    attempts.fail(trial)
    assert attempts.end("b2-0000") == Loss(failure=Failure.WORKER_LOST)


def lost_with(tmp_path: Path, number: int, message: str) -> Trial:
    """A Tune trial whose process was lost with this message."""
    file = tmp_path / f"error-{number}.txt"
    file.write_text(f"Failure # 1 (occurred at noon)\n{message}\n")
    work = Work(kind=Kind.TRIAL, study="b2", trial_id=f"b2-{number:04d}", task={})
    return Trial(str(file), {WORK: work.to_text()})


def test_the_sweep_ends_if_none_of_the_first_processes_starts(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    broker = Broker()
    attempts = Attempts(
        broker,  # type: ignore[arg-type]
        None,
        LimitsSection(),
        print_message=told.append,
    )
    trials = [lost_with(tmp_path, number, "why\nOSError: no room") for number in range(3)]
    for trial in trials:
        attempts.add(trial)
    attempts.fail(trials[0])
    assert told == ["b2-0000: not_started: OSError: no room"]  # printed at the first loss
    attempts.fail(trials[1])
    with pytest.raises(NotStartedError, match=r"no process .* started \(3 tried\): OSError: no r"):
        attempts.fail(trials[2])
    assert len(told) == 1


def test_a_sweep_with_one_slot_survives_one_process_that_does_not_start(tmp_path: Path) -> None:
    attempts = Attempts(Broker(), None, LimitsSection())  # type: ignore[arg-type]
    trial = lost_with(tmp_path, 0, "the node has died")
    attempts.add(trial)
    attempts.fail(trial)
    attempts.add(trial)
    with pytest.raises(NotStartedError, match="the node has died"):
        attempts.fail(trial)


IMPORT_ERRORS = (
    "why\nModuleNotFoundError: No module named 'pets'",
    "why\nImportError: cannot import name 'cat' from 'pets'",
    "RuntimeError: The actor with name A failed to import on the worker. This may be\n"
    "AttributeError: module 'random' has no attribute 'Random'",
)


@pytest.mark.parametrize("message", IMPORT_ERRORS)
def test_a_process_that_cannot_import_what_it_needs_ends_a_sweep_that_has_not_begun(
    tmp_path: Path, message: str
) -> None:
    broker = Broker()
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    trial = lost_with(tmp_path, 0, message)
    assert attempts.add(trial)
    reason = message.splitlines()[-1]
    with pytest.raises(NotStartedError, match=re.escape(f"(1 tried): {reason}")):
        attempts.fail(trial)
    assert attempts.add(trial)  # Tune adds the trial again; a resume does its work
    assert broker.losses == [("b2-0000", Loss(failure=Failure.NOT_STARTED, reason=reason))]
    assert broker.settled == []


@pytest.mark.parametrize("message", IMPORT_ERRORS)
def test_once_work_has_begun_a_process_that_cannot_import_is_not_tried_again(
    tmp_path: Path, message: str
) -> None:
    broker = Broker()
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    begun, other = lost_with(tmp_path, 0, "gone"), lost_with(tmp_path, 1, message)
    for trial in (begun, other):
        attempts.add(trial)
    attempts.begin(begun)
    attempts.fail(other)
    assert not attempts.requeue("b2-0001")
    assert not attempts.add(other)
    loss = Loss(failure=Failure.NOT_STARTED, reason=message.splitlines()[-1])
    assert broker.settled == [("b2-0001", loss)]
    assert broker.reasons == []


def test_once_work_has_begun_a_process_that_does_not_start_ends_nothing(tmp_path: Path) -> None:
    attempts = Attempts(Broker(), None, LimitsSection())  # type: ignore[arg-type]
    begun, other = (lost_with(tmp_path, number, "gone") for number in range(2))
    for trial in (begun, other):
        attempts.add(trial)
    attempts.begin(begun)
    for _ in range(4):
        attempts.fail(other)
        attempts.add(other)
    attempts.fail(other)
    assert attempts.end("b2-0001") == Loss(failure=Failure.NOT_STARTED, reason="gone")


def test_a_process_that_dies_between_two_pieces_of_work_was_lost_and_had_started(
    tmp_path: Path,
) -> None:
    attempts = Attempts(Broker(), None, LimitsSection())  # type: ignore[arg-type]
    trial = lost_with(tmp_path, 0, "gone")
    attempts.add(trial)
    attempts.fail(trial, reused=True)
    assert attempts.end("b2-0000").failure is Failure.WORKER_LOST


@pytest.mark.parametrize(("attempt", "again"), [(0, True), (2, True), (3, False)])
def test_work_that_tune_gave_up_too_early_is_requeued_until_its_second_retry(
    attempt: int, again: bool
) -> None:
    broker = Broker()
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    work = Work(kind=Kind.TRIAL, study="b2", trial_id="b2-0000", task={}, attempt=attempt)
    attempts.add(Trial("", {WORK: work.to_text()}))
    assert attempts.requeue("b2-0000") is again
    assert broker.taken_back == ["b2-0000"] * again
