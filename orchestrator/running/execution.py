"""Execution of a sweep's missing work: broker, Tune, tables, log, signals and head watch."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import StorageError
from orchestrator.planning.cache_plan import lines_of
from orchestrator.planning.gpu_memory import heaviest_trials
from orchestrator.planning.plan import Plan
from orchestrator.planning.preparation import Prepared
from orchestrator.planning.work import Activity
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.journal_format import reading_contents
from orchestrator.recording.progress import StudyProgress, measure
from orchestrator.recording.projection import Projection, rebuild
from orchestrator.recording.sweep_directory import Run
from orchestrator.running.broker.broker import Broker, Seconds
from orchestrator.running.log_file import logging_to
from orchestrator.running.worker.checkpoints import CheckpointFolder
from orchestrator.signals import stopping_on_signals
from orchestrator.throttle import Throttled

if TYPE_CHECKING:  # reading a sweep does not import ray
    from orchestrator.running.ray_tune.capacity import Capacity
    from orchestrator.running.ray_tune.object_store import SharedObjects

TABLES_EVERY_S = 5.0
"""Shortest time between two writes of the tables while a sweep runs, in seconds."""

_log = logging.getLogger("sft_sweep")


class View(Protocol):
    """Shows the progress of a running sweep."""

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress], activity: Activity) -> None:
        """Show the current state; called every 0.5 s, less often with thousands of trials."""

    def print_message(self, message: str) -> None:
        """Print a message for the user at once."""

    def stopping(self) -> None:
        """Say that the sweep is stopping; called inside a signal handler."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a sweep's execution.

    Attributes:
        signal: the signal that ended it early, or None.
        seconds: time spent in calls of the broker.
    """

    signal: int | None
    seconds: Seconds


class SweepExecution:
    """One execution of the work that a sweep's journal lacks, on a running cluster.

    Args:
        run: directory of the sweep.
        prepared: the prepared sweep.
        journal: journal of the sweep, open for writing.
        capacity: slots of the cluster.
        view: shows the progress of the sweep.
    """

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        journal: SweepJournal,
        *,
        capacity: Capacity,
        view: View,
    ) -> None:
        from orchestrator.running.ray_tune.stopper import SweepStopper

        self._run = run
        self._prepared = prepared
        self._space = prepared.space
        self._journal = journal
        self._capacity = capacity
        self._view = view
        self._stopper = SweepStopper()
        self._start = time.monotonic()
        self._resume = f"What has finished is kept; go on with: sft-sweep resume {run.argument}"

    def execute(self) -> Ended:
        """Do the missing work and write the tables.

        Raises:
            StorageError: a file cannot be written, the journal is invalid, no worker process can
                start, or the head of the cluster was lost.
        """
        with (
            logging_to(self._run.log),
            stopping_on_signals(self._stop) as caught,
            self._watching_head(),
        ):
            if self._journal.mended_bytes:
                _log.warning(
                    "%s: dropped a last record or ask that an earlier run left incomplete",
                    self._run.journal,
                )
            checkpoint_actor, shared = self._share()
            self._pack_gpus(shared)
            slots = max(1, self._capacity.slots())
            broker, projection = self._open_broker(slots)
            self._log_start(slots)
            self._work(broker, projection, checkpoint_actor, shared)
            if not self._stopper.stopping:
                CheckpointFolder(self._run.checkpoints).clear()
            _log.info("ended: signal %s", caught[0] if caught else None)
            return Ended(signal=caught[0] if caught else None, seconds=broker.seconds)

    def _stop(self) -> None:
        """Request a clean end of the sweep; called inside a signal handler."""
        self._stopper.request_stop()
        self._view.stopping()

    def _watching_head(self) -> AbstractContextManager[None]:
        """A context in which the loss of the cluster's head ends the sweep."""
        from orchestrator.running.ray_tune.head_watch import watching_head

        lost = StorageError(f"the head of the Ray cluster does not answer any more. {self._resume}")
        return watching_head(
            lost=lambda: self._stopper.fail(lost), stuck=lambda: _exit_without_head(self._run, lost)
        )

    def _share(self) -> tuple[Any, SharedObjects]:
        """Start the checkpoint actor, and put what workers read into the object store."""
        from orchestrator.running.ray_tune.checkpoint_actor import start_checkpoint_actor
        from orchestrator.running.ray_tune.object_store import put_objects

        checkpoint_actor = start_checkpoint_actor(self._run.checkpoints)
        shared = put_objects(
            self._prepared.images,
            self._prepared.weights,
            self._prepared.graphs,
            self._prepared.tokens,
            cache=self._space.cache,
            checkpoint_actor=checkpoint_actor,
            checkpoint_s=self._space.checkpoint_s,
        )
        return checkpoint_actor, shared

    def _pack_gpus(self, shared: SharedObjects) -> None:
        """Measure the number of trials per GPU, if the file does not set it."""
        from orchestrator.running.ray_tune.gpu_packing import pack_gpu

        if self._capacity.shares_gpus:
            self._capacity.trial_resources = pack_gpu(
                self._capacity.trial_resources,
                shared,
                heaviest_trials(self._space, self._prepared.plan),
                stopping=lambda: self._stopper.stopping,
            )

    def _open_broker(self, slots: int) -> tuple[Broker, Projection]:
        """Open the broker on the journal, and the projection of its studies to tables.

        Raises:
            StorageError: the journal has contents that no sweep writes.
        """
        hours = self._space.limits.hours
        with reading_contents(self._run.journal):
            broker = Broker(
                self._space,
                self._prepared.plan,
                self._prepared.images,
                self._journal,
                slots=slots,
                deadline=None if hours is None else self._start + hours * 3600,
            )
            projection = Projection(self._run.sweep_id, broker.studies)
            projection.tables()  # finds invalid contents before the first trial runs
        return broker, projection

    def _log_start(self, slots: int) -> None:
        for note in self._prepared.notes:
            for line in note.lines():
                _log.info("dataset: %s", line)
        for line in lines_of(self._prepared.kept):
            _log.info("cache: %s", line)
        _log.info("started: %d slots, %d studies", slots, len(self._prepared.plan.studies))

    def _work(
        self,
        broker: Broker,
        projection: Projection,
        checkpoint_actor: Any,
        shared: SharedObjects,
    ) -> None:
        """Run Tune until the broker has no work left; update the view and tables meanwhile.

        Raises:
            StorageError: the tables cannot be written, or no worker process can start.
        """
        from orchestrator.running.ray_tune.actor import FineTuneActor
        from orchestrator.running.ray_tune.attempts import Attempts, NotStartedError
        from orchestrator.running.ray_tune.run import run_work

        def show() -> None:
            self._view(self._prepared.plan, measure(self._space, broker.studies), broker.activity)

        showing = Throttled(show)
        writing = Throttled(lambda: projection.write(self._run.path), every_s=TABLES_EVERY_S)

        def tick() -> None:
            self._capacity.follow(broker)
            showing()
            writing()

        try:
            run_work(
                broker,
                FineTuneActor,
                parameters={"shared": shared},
                attempts=Attempts(
                    broker,
                    checkpoint_actor,
                    self._space.limits,
                    print_message=self._view.print_message,
                ),
                resources=self._capacity.trial_resources,
                stopper=self._stopper,
                tick=tick,
            )
        except NotStartedError as error:
            raise StorageError(f"{error}\n{self._resume}") from error
        finally:
            projection.write(self._run.path)
        show()


def _exit_without_head(run: Run, lost: StorageError) -> None:
    """Write the tables and end the process, from a thread: the main thread waits for the head."""
    try:
        rebuild(run.path, run.sweep_id)
    finally:
        _log.error("%s", lost)
        print(f"\n{lost}", file=sys.stderr, flush=True)
        os._exit(lost.exit_code)
