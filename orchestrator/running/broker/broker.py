"""The broker between Ray Tune and Optuna: hands out work, takes reports, prunes, settles.

What a label budget still has to do is its `StudyQueue`'s to know; here is what is out. There is one
Optuna study a label budget, all in one journal, which is the truth: whatever the broker knows it
can read back from there. Every method may be called again with the same arguments without changing
anything, because Tune repeats itself after a retry.
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
from trainable.data.labelled_images import LabelledImages

_log = logging.getLogger("sft_sweep")

DONE = "done"
"""What `Broker.next_work` says when no work is left and none can follow."""


@dataclass
class _Live:
    """Work that is out: its Optuna trial where it has one, and what was heard of it."""

    work: Work
    trial: optuna.Trial | None
    reported: set[int]
    event: Event | None = None
    stopped: bool = False


@dataclass
class Seconds:
    """Time spent in the broker's calls, and how often they were made."""

    ask: float = 0.0
    report: float = 0.0
    tell: float = 0.0
    asks: int = 0
    reports: int = 0
    tells: int = 0


class Broker:
    """Hands out the work of a sweep and records what comes of it.

    Args:
        space: what is asked.
        plan: the studies and baselines.
        images: of the sweep; the test images are recorded with the studies.
        journal: open for writing.
        slots: pieces of work that may be out at the same time.
        deadline: `clock()` after which nothing new is tried; finalists still are.
        clock: seconds.
    """

    def __init__(
        self,
        space: SearchSpace,
        plan: Plan,
        images: LabelledImages,
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
        self._live: dict[str, _Live] = {}
        self._taken_back: deque[_Live] = deque()
        self._asked_flops = self._computed_flops = 0.0
        self._agendas: dict[str, StudyQueue] = {}
        storage = optuna.storages.JournalStorage(journal)
        below = None
        for study in plan.studies:
            below = StudyQueue(storage, space, plan, study, images, below=below)
            self._agendas[study.name] = below
            for run in below.recorded_runs():
                self._count(run)

    @property
    def studies(self) -> Mapping[str, optuna.Study]:
        """The Optuna studies by name, in ascending order of labels."""
        return {name: agenda.study for name, agenda in self._agendas.items()}

    @property
    def activity(self) -> Activity:
        """What is out now, and what was saved by all that has settled, before a resume too."""
        return Activity(
            busy=len(self._live),
            slots=self._slots,
            asked_flops=self._asked_flops,
            computed_flops=self._computed_flops,
        )

    @property
    def open_work(self) -> int:
        """Pieces of work that could be out at once now, had everything a slot."""
        trying = not self.past_deadline
        waiting = sum(agenda.waiting(trying=trying) for agenda in self._agendas.values())
        return len(self._live) + len(self._taken_back) + waiting

    @property
    def past_deadline(self) -> bool:
        """Whether the time limit of the sweep is over."""
        return self._deadline is not None and self._clock() >= self._deadline

    def next_work(self) -> Work | str | None:
        """The next piece of work, None while it has to wait for others, or `DONE`.

        Budgets come in ascending order of priority; within one the baselines come first, then
        trials, then finals once everything else of the budget has settled. What was taken back
        goes before all.
        """
        if len(self._live) >= self._slots:
            return None
        if self._taken_back:
            live = self._taken_back.popleft()
            self._live[live.work.work_id] = live
            return live.work
        for agenda in self._agendas.values():
            start = time.perf_counter()
            due = agenda.next(trying=not self.past_deadline)
            if due is not None:
                if due.work.kind is Kind.TRIAL:
                    self.seconds.ask += time.perf_counter() - start
                    self.seconds.asks += 1
                self._live[due.work.work_id] = _Live(due.work, due.trial, set(due.reported))
                return due.work
        if self._live:
            return None
        for agenda in self._agendas.values():
            agenda.close()
        return DONE

    def resize(self, slots: int) -> None:
        """Have another number of slots; what is out above it stays out."""
        self._slots = slots

    def retry(self, work_id: str, *, reason: str) -> Work | None:
        """The work as its next attempt, after a process was lost; None where it is not out.

        Args:
            work_id: which.
            reason: what ended the attempt before.
        """
        live = self._live.get(work_id)
        if live is None:
            return None
        live.work = replace(live.work, attempt=live.work.attempt + 1)
        if live.trial is not None:
            plan = live.trial.user_attrs[user_attributes.PLAN]
            live.trial.set_user_attr(user_attributes.PLAN, plan | {"attempt": live.work.attempt})
        _log.warning("%s: attempt %d follows: %s", work_id, live.work.attempt, reason)
        return live.work

    def note_loss(self, work_id: str, loss: Loss) -> None:
        """Record how a process was lost with work that is not settled by it yet."""
        live = self._live.get(work_id)
        if live is not None:
            study = self._agendas[live.work.study].study
            study.set_user_attr(user_attributes.loss_key(work_id), str(loss))

    def requeue(self, work_id: str) -> None:
        """Have work again that no process has taken up; it is handed out next, as it is."""
        live = self._live.pop(work_id, None)
        if live is not None:
            self._taken_back.append(live)

    def observe(self, work_id: str, event: Event) -> bool:
        """Record an event; return whether the work is to be stopped now.

        Only a trial with reports still to come is ever stopped.
        """
        live = self._live.get(work_id)
        if live is None:
            return True
        if live.stopped:
            return True
        if event.report is not None and not math.isfinite(event.report["val_objective"]):
            event = replace(event, report=None, failure=Failure.NONFINITE)
        live.event = event
        if live.trial is None or event.report is None:
            live.stopped = event.failure is not None and not event.done
            return live.stopped
        start = time.perf_counter()
        live.stopped = self._report(live, live.trial, event, event.report)
        self.seconds.report += time.perf_counter() - start
        self.seconds.reports += 1
        return live.stopped

    def settle(self, work_id: str, *, loss: Loss | None = None) -> None:
        """Record the end of a piece of work.

        Args:
            work_id: which.
            loss: why it has no last event.
        """
        live = self._live.pop(work_id, None)
        if live is None:
            return
        start = time.perf_counter()
        agenda = self._agendas[live.work.study]
        agenda.settled(work_id)
        event = live.event
        run = {**(event.run if event else {}), "attempt": live.work.attempt}
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
        if live.trial is not None:
            _tell(agenda.study, live.trial, event, run)
        else:
            agenda.study.set_user_attr(
                user_attributes.result_key(live.work),
                {"run": run, "task": live.work.task, "result": event.result if event else None},
            )
        self.seconds.tell += time.perf_counter() - start
        self.seconds.tells += 1

    def _count(self, run: Mapping[str, Any]) -> None:
        """Add what one piece of work asked of prefixes to the totals."""
        self._asked_flops += run.get("prefix_flops_asked", 0.0)
        self._computed_flops += run.get("prefix_flops_computed", 0.0)

    def _report(
        self, live: _Live, trial: optuna.Trial, event: Event, report: Mapping[str, Any]
    ) -> bool:
        number = int(report["report"])
        if event.facts is not None:
            trial.set_user_attr(user_attributes.FACTS, event.facts)
        if number not in live.reported:
            trial.set_user_attr(user_attributes.report_key(number), dict(report))
            trial.report(report["val_objective"], step=number)
            live.reported.add(number)
        if event.done:
            return False
        if self.past_deadline:
            live.event = replace(event, failure=Failure.TIME_LIMIT)
            return True
        # Pruners judge the newest report: one that an earlier attempt got beyond was judged then.
        return number == max(live.reported) and trial.should_prune()


def _tell(
    study: optuna.Study, trial: optuna.Trial, event: Event | None, run: dict[str, Any]
) -> None:
    """Settle a trial: complete with its last report, pruned where it was stopped, else failed."""
    trial.set_user_attr(user_attributes.RUN, run)
    stopped = event is not None and not event.done and run["failure"] is None
    if stopped or run["failure"] in {Failure.NONFINITE, Failure.TIME_LIMIT}:
        study.tell(trial, state=TrialState.PRUNED)
    elif run["failure"] is not None or event is None or event.report is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, event.report["val_objective"])
