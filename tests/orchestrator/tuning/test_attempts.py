"""What counts as a retry, read from the words with which Ray gives up a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.space import LimitsSection
from orchestrator.tuning.attempts import MAX_RETRIES, WORK, Attempts
from orchestrator.work import Failure, Kind, Work

PLAIN = "The actor died unexpectedly before finishing this task."
GONE = "The actor died because its node has died. Node Id: ab\n\tthe actor's node was "


class Broker:
    """Notes which attempts follow."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def begin_again(self, work_id: str, *, reason: str) -> None:
        self.reasons.append(reason)


@dataclass
class Trial:
    """What of a Tune trial is looked at."""

    error_file: str
    config: dict[str, Any] = field(
        default_factory=lambda: {
            WORK: Work(kind=Kind.TRIAL, study="b2", trial_id="b2-0000", task={}).to_text()
        }
    )
    max_failures: int = MAX_RETRIES


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
def test_only_a_node_that_was_announced_to_go_costs_no_retry(
    tmp_path: Path, message: str, reason: Failure, retries_left: int
) -> None:
    file = tmp_path / "error.txt"
    older = f"Failure # 1 (occurred at noon)\n{GONE}preempted: wanted back\n"
    file.write_text(f"{older}Failure # 2 (occurred at one)\n{message}\n")
    broker, trial = Broker(), Trial(str(file))
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    attempts.add(trial)
    attempts.fail(trial)
    attempts.add(trial)
    assert broker.reasons == [reason]
    assert trial.max_failures == retries_left


def test_the_log_has_the_end_of_what_ray_says_of_a_lost_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "error.txt"
    file.write_text("Failure # 1 (occurred at noon)\n" + "more\n" * 20 + "ImportError: no pets\n")
    attempts = Attempts(Broker(), None, LimitsSection())  # type: ignore[arg-type]
    trial = Trial(str(file))
    attempts.add(trial)
    attempts.fail(trial)
    assert caplog.messages[-1].startswith("b2-0000: its process was lost:\n")
    assert caplog.messages[-1].endswith("ImportError: no pets")
    assert caplog.messages[-1].count("more") < 10


def test_a_process_without_an_error_file_is_lost(tmp_path: Path) -> None:
    broker, trial = Broker(), Trial(str(tmp_path / "nothing"))
    attempts = Attempts(broker, None, LimitsSection())  # type: ignore[arg-type]
    attempts.add(trial)
    attempts.fail(trial)
    assert attempts.end("b2-0000") is Failure.WORKER_LOST
