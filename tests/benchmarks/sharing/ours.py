"""The contestant sft-sweep, run as its command runs it."""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.planning.preparation import Prepared
from orchestrator.planning.work import Loss
from orchestrator.planning.work import Work as TrialResources
from orchestrator.reading.outcome import Outcome, conclude
from orchestrator.recording.tables import read_table
from orchestrator.running import execution, launch
from orchestrator.running.broker.broker import Broker
from orchestrator.running.broker.study_queue import StudyQueue
from orchestrator.running.cluster import LOCAL
from tests.benchmarks.sharing.clock import Measured
from tests.benchmarks.sharing.work import Work, mean
from tests.builders.prepared import prepare


class TrialsBroker(Broker):
    """Records when the first piece of work was requested and when the last one settled."""

    began_at: float | None = None
    ended_at = 0.0

    def next_work(self) -> TrialResources | str | None:
        """Return the next piece of work."""
        if TrialsBroker.began_at is None:
            TrialsBroker.began_at = time.perf_counter()
        return super().next_work()

    def settle(self, work_id: str, *, loss: Loss | None = None) -> None:
        """Settle a piece of work and record the time."""
        super().settle(work_id, loss=loss)
        TrialsBroker.ended_at = time.perf_counter()


def run_trials(path: Path) -> Measured:
    """Run the trials of a work file without finals; can be called once per process."""
    work = Work.load(path)
    measured, _ = run_space(work.space, num_trials=len(work.trials))
    return measured


def run_space(space: Path, *, num_trials: int) -> tuple[Measured, list[dict[str, Any]]]:
    """The trials of a search-space file, without finals; once a process.

    Args:
        space: the file.
        num_trials: that it comes to.

    Returns:
        What was measured, and the rows of the table of trials.
    """
    with mock.patch.object(StudyQueue, "_final_work", return_value=[]):
        measured, trials, _ = run_sweep(space, num_trials=num_trials, num_finals=0)
    return measured, trials


def run_sweep(
    space: Path, *, num_trials: int, num_finals: int
) -> tuple[Measured, list[dict[str, Any]], list[dict[str, Any]]]:
    """A search-space file from its first trial to its last final; once a process.

    Args:
        space: the file.
        num_trials: that it comes to.
        num_finals: that it comes to.

    Returns:
        What was measured, and the rows of the tables of trials and of finals.
    """
    start = time.perf_counter()
    prepared = prepare(space)
    before_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        with mock.patch.object(execution, "Broker", TrialsBroker):
            outcome = _launch(prepared, Path(folder))
        trials = read_table(outcome.run.path, "trials").to_pylist()
        finals = read_table(outcome.run.path, "finals").to_pylist()
    if len(trials) != num_trials or outcome.failures or len(finals) != num_finals:
        raise RuntimeError(
            f"{outcome.failures} failures, {len(trials)} trials and {len(finals)} finals instead "
            f"of {num_trials} trials and {num_finals} finals"
        )
    assert TrialsBroker.began_at is not None
    measured = Measured(
        seconds=TrialsBroker.ended_at - TrialsBroker.began_at,
        before_s=before_s,
        accuracy=mean(map(_accuracy, trials)),
        features_s=sum(trial["features_s"] for trial in trials),
        peak_memory_bytes=max(trial["peak_memory_bytes"] for trial in trials),
    )
    return measured, trials, finals


def _accuracy(trial: dict[str, Any]) -> float:
    """A trial's accuracy; of masks, its objective."""
    accuracy = trial["val_accuracy"]
    return float(trial["val_score"] if accuracy is None else accuracy)


def run_protocol(path: Path) -> Measured:
    """Run a whole launch, from the start of Ray to the leaderboard.

    The accuracy is the mean over budgets of the best finalist's test accuracy.
    """
    work = Work.load(path)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = _launch(prepare(work.space), Path(folder))
        seconds = time.perf_counter() - start
        leaderboard = read_table(outcome.run.path, "leaderboard").to_pylist()
    if outcome.failures:
        raise RuntimeError(f"{outcome.failures} trials or finals failed")
    first = [row["test_accuracy"] for row in leaderboard if row["rank"] == 1]
    return Measured(seconds=seconds, accuracy=mean(first))


class Unseen:
    """A progress view that shows nothing."""

    def __call__(self, plan: object, progress: object, activity: object) -> None:
        """Do nothing."""

    def print_message(self, message: str) -> None:
        """Do nothing, because messages would mix with the table."""

    def stopping(self) -> None:
        """Do nothing."""


def _launch(prepared: Prepared, root: Path) -> Outcome:
    with launch.launch(
        prepared.space,
        preparing=lambda: prepared,
        root=root,
        address=LOCAL,
        viewing=lambda _: nullcontext(Unseen()),
    ) as ended:
        return conclude(ended.run, images=ended.images, interrupted=ended.signal is not None)
