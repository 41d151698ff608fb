"""The broker between Ray Tune and Optuna: hands out work, records reports, prunes, settles.

A `StudyQueue` per label budget holds the work that has not started; the broker holds the running
work. There is one Optuna study per label budget, all in one journal. The journal is the only
durable state: the broker can be rebuilt from it. Recording is idempotent, because Tune repeats
calls after a retry.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from orchestrator.planning.plan import Plan
from orchestrator.planning.work import Activity, Event, Failure, Kind, Loss, Work
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import SweepJournal
from orchestrator.running.broker.study_queue import StudyQueue
from orchestrator.space import SearchSpace
from trainable.data.labelled_examples import LabelledExamples

_log = logging.getLogger("sft_sweep")

DONE = "done"
"""Returned by `Broker.next_work` when no work is left and none can follow."""


@dataclass
class _RunningWork:
    """A running piece of work, with its Optuna trial if it has one, and its last event."""

    work: Work
    trial: optuna.Trial | None
    reported: set[int]
    event: Event | None = None
    stopped: bool = False


@dataclass
class Seconds:
    """Seconds spent in the broker's calls."""

    ask: float = 0.0
    report: float = 0.0
    tell: float = 0.0


class Broker:
    """Hands out the work of a sweep and records its results.

    Args:
        space: the search space.
        plan: plan of the sweep.
        images: images of the sweep; the test images are recorded with the studies.
        journal: journal of the sweep, open for writing.
        slots: pieces of work that may run at the same time.
        deadline: reading of `clock` after which no new trial starts; finals still run. None for no
            time limit.
        clock: monotonic clock, in seconds.

    Attributes:
        seconds: time spent in the broker's calls.
    """

    def __init__(
        self,
        space: SearchSpace,
        plan: Plan,
        images: LabelledExamples,
        journal: SweepJournal,
        *,
        slots: int,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.seconds = Seconds()
        self._slots = slots
        self._deadline = deadline
        self._clock = clock
        self._running: dict[str, _RunningWork] = {}
        self._requeued: deque[_RunningWork] = deque()
        self._asked_flops = self._computed_flops = 0.0
        self._queues: dict[str, StudyQueue] = {}
        storage = optuna.storages.JournalStorage(journal)
        below = None
        for study in plan.studies:
            below = StudyQueue(storage, space, plan, study, images, below=below)
            self._queues[study.name] = below
            for run in below.recorded_runs():
                self._count(run)

    @property
    def studies(self) -> Mapping[str, optuna.Study]:
        """The Optuna studies by name, in ascending order of labels."""
        return {name: queue.study for name, queue in self._queues.items()}

    @property
    def activity(self) -> Activity:
        """Running work, and the prefix computation saved by all settled work of the sweep."""
        return Activity(
            busy=len(self._running),
            slots=self._slots,
            asked_flops=self._asked_flops,
            computed_flops=self._computed_flops,
        )

    @property
    def open_work(self) -> int:
        """Number of pieces of work that could run now, given enough slots."""
        trying = not self.past_deadline
        waiting = sum(queue.waiting(trying=trying) for queue in self._queues.values())
        return len(self._running) + len(self._requeued) + waiting

    @property
    def past_deadline(self) -> bool:
        """Whether the sweep has reached its time limit."""
        return self._deadline is not None and self._clock() >= self._deadline

    def next_work(self) -> Work | str | None:
        """The next piece of work, None if all slots are busy or it waits for other work, or `DONE`.

        Requeued work comes first. Then smaller budgets come before larger ones; within a budget
        baselines come before trials, and finals follow when everything else has settled.
        """
        if len(self._running) >= self._slots:
            return None
        if self._requeued:
            running = self._requeued.popleft()
            self._running[running.work.work_id] = running
            return running.work
        for queue in self._queues.values():
            start = time.perf_counter()
            queued = queue.next(trying=not self.past_deadline)
            if queued is not None:
                if queued.work.kind is Kind.TRIAL:
                    self.seconds.ask += time.perf_counter() - start
                self._running[queued.work.work_id] = _RunningWork(
                    queued.work, queued.trial, set(queued.reported)
                )
                return queued.work
        if self._running:
            return None
        for queue in self._queues.values():
            queue.close()
        return DONE

    def resize(self, slots: int) -> None:
        """Set the number of slots; running work in excess of it continues."""
        self._slots = slots

    def retry(self, work_id: str, *, reason: str) -> Work | None:
        """Start the next attempt of work whose process was lost.

        Args:
            work_id: id of the work.
            reason: reason of the loss, for the log.

        Returns:
            The work with its new attempt number; None if it is not running.
        """
        running = self._running.get(work_id)
        if running is None:
            return None
        running.work = replace(running.work, attempt=running.work.attempt + 1)
        if running.trial is not None:
            plan = running.trial.user_attrs[user_attributes.PLAN]
            running.trial.set_user_attr(
                user_attributes.PLAN, plan | {"attempt": running.work.attempt}
            )
        _log.warning("%s: attempt %d follows: %s", work_id, running.work.attempt, reason)
        return running.work

    def note_loss(self, work_id: str, loss: Loss) -> None:
        """Record the loss of a process whose work is not settled yet, for `status`."""
        running = self._running.get(work_id)
        if running is not None:
            study = self._queues[running.work.study].study
            study.set_user_attr(user_attributes.loss_key(work_id), str(loss))

    def requeue(self, work_id: str) -> None:
        """Take back work that no process has started; the same attempt is handed out next."""
        running = self._running.pop(work_id, None)
        if running is not None:
            self._requeued.append(running)

    def observe(self, work_id: str, event: Event) -> bool:
        """Record an event; return whether to stop the work now.

        A trial is never pruned at its last report. An event of work that is not running stops it.

        Args:
            work_id: id of the work.
            event: the event; a report that is already in the journal is not recorded again.
        """
        running = self._running.get(work_id)
        if running is None:
            return True
        if running.stopped:
            return True
        if event.report is not None and not math.isfinite(event.report["val_objective"]):
            event = replace(event, report=None, failure=Failure.NONFINITE)
        running.event = event
        if running.trial is None or event.report is None:
            running.stopped = event.failure is not None and not event.done
            return running.stopped
        start = time.perf_counter()
        running.stopped = self._report(running, running.trial, event, event.report)
        self.seconds.report += time.perf_counter() - start
        return running.stopped

    def settle(self, work_id: str, *, loss: Loss | None = None) -> None:
        """Record the end of a piece of work.

        Args:
            work_id: id of the work.
            loss: loss of its process, if it sent no last event.
        """
        running = self._running.pop(work_id, None)
        if running is None:
            return
        start = time.perf_counter()
        queue = self._queues[running.work.study]
        queue.settled(work_id)
        event = running.event
        run = {**(event.run if event else {}), "attempt": running.work.attempt}
        if loss is None and event is not None:
            run["failure"] = event.failure
        else:
            lost = loss or Loss(failure=Failure.WORKER_LOST)
            run |= {"failure": lost.failure, "reason": lost.reason}
        if run.get("checkpoint_warning"):
            _log.warning("%s: %s", work_id, run["checkpoint_warning"])
        if run["failure"] is not None:
            _log.warning(
                "%s: %s\n%s", work_id, user_attributes.why_failed(run), run.get("traceback", "")
            )
        self._count(run)
        if running.trial is not None:
            _tell(queue.study, running.trial, event, run)
        else:
            queue.study.set_user_attr(
                user_attributes.result_key(running.work),
                {"run": run, "task": running.work.task, "result": event.result if event else None},
            )
        self.seconds.tell += time.perf_counter() - start

    def _count(self, run: Mapping[str, Any]) -> None:
        """Add the prefix FLOPs of one piece of work to the totals."""
        self._asked_flops += run.get("prefix_flops_asked", 0.0)
        self._computed_flops += run.get("prefix_flops_computed", 0.0)

    def _report(
        self, running: _RunningWork, trial: optuna.Trial, event: Event, report: Mapping[str, Any]
    ) -> bool:
        number = int(report["report"])
        if event.facts is not None:
            trial.set_user_attr(user_attributes.FACTS, event.facts)
        if number not in running.reported:
            trial.set_user_attr(user_attributes.report_key(number), dict(report))
            trial.report(report["val_objective"], step=number)
            running.reported.add(number)
        if event.done:
            return False
        if self.past_deadline:
            running.event = replace(event, failure=Failure.TIME_LIMIT)
            return True
        # Pruners judge the newest report; an earlier attempt already passed the older ones.
        return number == max(running.reported) and trial.should_prune()


def _tell(
    study: optuna.Study, trial: optuna.Trial, event: Event | None, run: dict[str, Any]
) -> None:
    """Tell Optuna a trial's end: complete with its last report, pruned if stopped, else failed."""
    trial.set_user_attr(user_attributes.RUN, run)
    stopped = event is not None and not event.done and run["failure"] is None
    if stopped or run["failure"] in {Failure.NONFINITE, Failure.TIME_LIMIT}:
        study.tell(trial, state=TrialState.PRUNED)
    elif run["failure"] is not None or event is None or event.report is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, event.report["val_objective"])
