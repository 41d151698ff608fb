"""Workers and drivers that are killed: nothing finished is lost, and nothing is there twice."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from orchestrator.recording.projection import load_studies
from tests.integration.faults.conftest import Results
from tests.integration.faults.sweeps import (
    Sweep,
    descendants,
    kill,
    results,
    resume,
    runs_of,
    settled,
    start,
)

pytestmark = pytest.mark.faults

OFTEN = "checkpoint_s=0.05"


def has_checkpoint(path: Path) -> bool:
    return any((path / "checkpoints").glob("*.checkpoint"))


def hit_workers_once_they_have_a_checkpoint(sweep: Sweep) -> set[str]:
    """Kill all workers; which pieces of work had a checkpoint then."""
    sweep.wait_until(has_checkpoint)
    kept = {file.stem for file in (sweep.path / "checkpoints").glob("*.checkpoint")}
    kill(sweep.workers())
    return kept


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(
    out: Path, undisturbed: Results
) -> None:
    sweep = start(out, OFTEN)
    hit_workers_once_they_have_a_checkpoint(sweep)
    code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
    again = [run for run in runs_of(sweep.path).values() if run["attempt"]]
    assert again
    assert any(run["from_checkpoint"] for run in again)
    assert not (sweep.path / "checkpoints").exists()


def test_stdout_holds_the_json_alone_however_many_workers_are_killed(out: Path) -> None:
    sweep = start(out, OFTEN, options=("--json",))
    killed: set[int] = set()
    for _ in range(3):
        sweep.wait_until(lambda _: not killed.issuperset(sweep.workers()))
        doomed = sweep.workers()
        kill(doomed)
        killed.update(doomed)
    code, messages = sweep.end()
    assert code in (0, 3), messages
    assert json.loads(sweep.printed)["run"] == str(sweep.path)
    assert "(raylet)" in messages.replace("\33[33m", "").replace("\33[0m", "")


@pytest.mark.slow
def test_a_worker_that_dies_between_two_checkpoints_repeats_no_row(
    out: Path, undisturbed: Results
) -> None:
    sweep = start(out, "checkpoint_s=60")
    sweep.wait_until(lambda path: settled(path) >= 1)
    kill(sweep.workers())
    sweep.wait_until(lambda path: settled(path) >= 2)
    kill(sweep.workers())
    code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
    assert any(run["attempt"] for run in runs_of(sweep.path).values())


@pytest.mark.parametrize(
    "done", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(5, marks=pytest.mark.slow)]
)
def test_a_driver_that_is_killed_loses_nothing_that_was_finished(
    out: Path, undisturbed: Results, done: int
) -> None:
    sweep = start(out, OFTEN)
    sweep.wait_until(lambda path: settled(path) >= done and bool(sweep.workers()))
    started = descendants(sweep.process.pid)
    sweep.kill()
    before = runs_of_settled(sweep.path)
    code, messages = resume(sweep.path)
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
    after = runs_of(sweep.path)
    assert {key: after[key] for key in before} == before  # not run a second time
    wait_for_the_end_of(started)


def runs_of_settled(path: Path) -> dict[str, dict[str, object]]:
    return {
        f"{name}-{trial.number:04d}": trial.user_attrs["run"]
        for name, study in load_studies(path).items()
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    }


def wait_for_the_end_of(pids: list[int]) -> None:
    """A killed driver leaves no process of its cluster behind."""
    until = time.monotonic() + 60
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, alive
        time.sleep(0.2)


@pytest.mark.slow
def test_a_corrupt_checkpoint_costs_no_more_than_its_work(out: Path, undisturbed: Results) -> None:
    sweep = start(out, OFTEN)
    sweep.wait_until(has_checkpoint)
    sweep.kill()
    damaged = list((sweep.path / "checkpoints").glob("*.checkpoint"))
    assert damaged
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(bytes(content))
    code, messages = resume(sweep.path)
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
    warned = [run["checkpoint_warning"] for run in runs_of(sweep.path).values()]
    assert any(warning and "started from scratch" in warning for warning in warned)
    assert "started from scratch" in (sweep.path / "sweep.log").read_text()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_sweep_within_seconds_and_resume_finishes_it(
    out: Path, undisturbed: Results, number: signal.Signals, code: int
) -> None:
    sweep = start(out, OFTEN)
    sweep.wait_until(lambda path: settled(path) >= 2)
    sweep.process.send_signal(number)
    ended, messages = sweep.end(timeout_s=30)
    assert ended == code, messages
    assert f"sft-sweep resume {sweep.path}" in messages
    kept = runs_of_settled(sweep.path)
    assert len(kept) >= 2
    assert results(sweep.path)["trials"]  # the tables are written
    ended, messages = resume(sweep.path)
    assert ended == 0, messages
    assert results(sweep.path) == undisturbed
    after = runs_of(sweep.path)
    assert {key: after[key] for key in kept} == kept


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_leaves_the_sweep_resumable(
    out: Path, undisturbed: Results
) -> None:
    sweep = start(out)
    sweep.wait_until(lambda path: settled(path) >= 1)
    sweep.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    sweep.process.send_signal(signal.SIGTERM)
    code, messages = sweep.end(timeout_s=15)
    assert code == 143, messages
    assert "Traceback" not in messages
    code, messages = resume(sweep.path)
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
