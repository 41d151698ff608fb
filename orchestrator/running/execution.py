"""Doing the work that a sweep's journal lacks: broker, Tune, tables, log, signals, head watch."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import StorageError
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

if TYPE_CHECKING:  # ray is imported when a sweep runs, not when one is looked at
    from orchestrator.running.ray_tune.capacity import Capacity

TABLES_EVERY_S = 5.0
"""Shortest time between two writings of the tables while a sweep runs, in seconds."""

_log = logging.getLogger("sft_sweep")


class View(Protocol):
    """Shows how far a sweep is."""

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress], activity: Activity) -> None:
        """Show the present state; called every half second, less often amid thousands of trials."""

    def tell(self, message: str) -> None:
        """Show a message at once."""

    def stopping(self) -> None:
        """Say that the end was asked for; called amid anything, by a signal handler."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the execution of a sweep came to its end.

    Attributes:
        signal: the signal that ended it early, or None.
        seconds: time spent in the broker.
    """

    signal: int | None
    seconds: Seconds


def execute(
    run: Run, prepared: Prepared, journal: SweepJournal, *, capacity: Capacity, view: View
) -> Ended:
    """Do all the work that a sweep's journal lacks, and write its tables.

    Raises:
        StorageError: something cannot be written, or the head of the cluster was lost.
    """
    from orchestrator.running.ray_tune.actor import FineTuneActor
    from orchestrator.running.ray_tune.attempts import Attempts, NotStartedError
    from orchestrator.running.ray_tune.checkpoint_actor import start_checkpoint_actor
    from orchestrator.running.ray_tune.gpu_packing import pack_gpu
    from orchestrator.running.ray_tune.head_watch import watching_head
    from orchestrator.running.ray_tune.object_store import put_objects
    from orchestrator.running.ray_tune.run import run_work
    from orchestrator.running.ray_tune.stopper import SweepStopper

    space, plan = prepared.space, prepared.plan
    start, hours = time.monotonic(), prepared.space.limits.hours
    control = SweepStopper()
    go_on = f"What has finished is kept; go on with: sft-sweep resume {run.argument}"
    lost = StorageError(f"the head of the Ray cluster does not answer any more. {go_on}")

    def stop() -> None:
        control.request_stop()
        view.stopping()

    with (
        logging_to(run.log),
        stopping_on_signals(stop) as caught,
        watching_head(lost=lambda: control.fail(lost), stuck=lambda: _leave(run, lost)),
    ):
        if journal.mended_bytes:
            _log.warning("%s: dropped a record or an ask that a death cut short", run.journal)
        checkpoint_actor = start_checkpoint_actor(run.checkpoints)
        shared = put_objects(
            prepared.images,
            prepared.weights,
            prepared.graphs,
            cache=space.cache,
            checkpoint_actor=checkpoint_actor,
            checkpoint_s=space.checkpoint_s,
        )
        if capacity.shares_gpus:
            capacity.piece = pack_gpu(
                capacity.piece,
                shared,
                heaviest_trials(space, plan),
                stopping=lambda: control.stopping,
            )
        slots = max(1, capacity.slots())
        with reading_contents(run.journal):
            broker = Broker(
                space,
                plan,
                prepared.images,
                journal,
                slots=slots,
                deadline=None if hours is None else start + hours * 3600,
            )
            projection = Projection(run.sweep_id, broker.studies)
            projection.tables()  # what is odd comes up now, and not amid trials

        def show() -> None:
            view(plan, measure(space, broker.studies), broker.activity)

        showing = Throttled(show)
        writing = Throttled(lambda: projection.write(run.path), every_s=TABLES_EVERY_S)

        def tick() -> None:
            capacity.follow(broker)
            showing()
            writing()

        _log_beginning(prepared, slots)
        try:
            run_work(
                broker,
                FineTuneActor,
                parameters={"shared": shared},
                attempts=Attempts(broker, checkpoint_actor, space.limits, tell=view.tell),
                piece=capacity.piece,
                control=control,
                tick=tick,
            )
        except NotStartedError as error:
            raise StorageError(f"{error}\n{go_on}") from error
        finally:
            projection.write(run.path)
        show()
        if not control.stopping:
            CheckpointFolder(run.checkpoints).clear()
        _log.info("ended: signal %s", caught[0] if caught else None)
        return Ended(signal=caught[0] if caught else None, seconds=broker.seconds)


def _log_beginning(prepared: Prepared, slots: int) -> None:
    for note in prepared.notes:
        for line in note.lines():
            _log.info("dataset: %s", line)
    for one in prepared.kept:
        _log.info("cache: %s", one.text)
    _log.info("started: %d slots, %d studies", slots, len(prepared.plan.studies))


def _leave(run: Run, lost: StorageError) -> None:
    """End the process from another thread than the one that waits for the head in vain."""
    try:
        rebuild(run.path, run.sweep_id)
    finally:
        _log.error("%s", lost)
        print(f"\n{lost}", file=sys.stderr, flush=True)
        os._exit(lost.exit_code)
