"""The broker between Ray Tune and Optuna: hands out work, takes reports, prunes, settles.

One Optuna study a label budget, all in one journal, which is the truth: whatever the broker knows
it can read back from there. Every method may be called again with the same arguments without
changing anything, because Tune repeats itself after a retry.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from orchestrator import record
from orchestrator.finalists import choose_finalists
from orchestrator.journal import SweepJournal
from orchestrator.plan import Baseline, Plan, StudyPlan, largest_value
from orchestrator.sampling import (
    make_pruner,
    make_sampler,
    optuna_params,
    shuffled_grid,
    suggest,
)
from orchestrator.space import SearchSpace, TpeSection
from orchestrator.work import Activity, Event, Failure, Kind, Work
from trainable.images import LabelledImages

_log = logging.getLogger("sft_sweep")

DONE = "done"
"""What `StudyBroker.next_work` says when no work is left and none can follow."""


@dataclass
class _Study:
    """One label budget: its plan, its Optuna study, and what is not settled yet."""

    plan: StudyPlan
    optuna: optuna.Study
    baselines: deque[Baseline]
    asked: int = 0
    unfinished: deque[int] = field(default_factory=deque)
    finals: deque[Work] | None = None
    running: set[str] = field(default_factory=set)


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


class StudyBroker:
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
        self._space = space
        self._slots = slots
        self._deadline = deadline
        self._clock = clock
        self._grid = shuffled_grid(space) if space.sampler.name == "grid" else None
        self._live: dict[str, _Live] = {}
        self._asked_flops = self._computed_flops = 0.0
        storage = optuna.storages.JournalStorage(journal)
        self._studies = {
            study.name: self._open_study(storage, study, plan, images) for study in plan.studies
        }

    @property
    def studies(self) -> Mapping[str, optuna.Study]:
        """The Optuna studies by name, in ascending order of labels."""
        return {name: study.optuna for name, study in self._studies.items()}

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
        waiting = (
            0
            if self.past_deadline
            else sum(s.plan.trials - s.asked for s in self._studies.values())
        )
        others = sum(
            len(s.unfinished) + len(s.baselines) + len(s.finals or ())
            for s in self._studies.values()
        )
        return len(self._live) + waiting + others

    @property
    def past_deadline(self) -> bool:
        """Whether the time limit of the sweep is over."""
        return self._deadline is not None and self._clock() >= self._deadline

    def next_work(self) -> Work | str | None:
        """The next piece of work, None while it has to wait for others, or `DONE`.

        Budgets come in ascending order of priority; within one the baselines come first, then
        trials, then finals once everything else of the budget has settled.
        """
        if len(self._live) >= self._slots:
            return None
        for study in self._studies.values():
            work = self._next_of(study)
            if work is not None:
                study.running.add(work.work_id)
                return work
        if self._live:
            return None
        for study in self._studies.values():
            if record.FINISHED not in study.optuna.user_attrs:
                study.optuna.set_user_attr(record.FINISHED, True)
        return DONE

    def resize(self, slots: int) -> None:
        """Have another number of slots; what is out above it stays out."""
        self._slots = slots

    def begin_again(self, work_id: str, *, reason: str) -> Work | None:
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
            plan = live.trial.user_attrs[record.PLAN]
            live.trial.set_user_attr(record.PLAN, plan | {"attempt": live.work.attempt})
        _log.warning("%s: attempt %d follows: %s", work_id, live.work.attempt, reason)
        return live.work

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

    def settle(self, work_id: str, *, failure: str | None = None) -> None:
        """Record the end of a piece of work.

        Args:
            work_id: which.
            failure: why it has no last event, such as `worker_lost`.
        """
        live = self._live.pop(work_id, None)
        if live is None:
            return
        start = time.perf_counter()
        study = self._studies[live.work.study]
        study.running.discard(work_id)
        event = live.event
        run = {
            **(event.run if event else {}),
            "attempt": live.work.attempt,
            "failure": failure or (event.failure if event else Failure.WORKER_LOST),
        }
        if run.get("checkpoint_warning"):
            _log.warning("%s: %s", work_id, run["checkpoint_warning"])
        if run["failure"] is not None:
            _log.warning("%s: %s\n%s", work_id, run["failure"], run.get("traceback", ""))
        self._count(run)
        if live.trial is not None:
            _tell(study.optuna, live.trial, event, run)
        else:
            study.optuna.set_user_attr(
                record.result_key(live.work),
                {"run": run, "task": live.work.task, "result": event.result if event else None},
            )
        self.seconds.tell += time.perf_counter() - start
        self.seconds.tells += 1

    def _open_study(
        self,
        storage: optuna.storages.JournalStorage,
        plan: StudyPlan,
        whole: Plan,
        images: LabelledImages,
    ) -> _Study:
        pruner = make_pruner(self._space, reports=largest_value(self._space, "reports"))
        if plan.name in {study.study_name for study in storage.get_all_studies()}:
            opened = optuna.load_study(study_name=plan.name, storage=storage, pruner=pruner)
        else:  # create_study(load_if_exists=True) would leave a record on every resume
            opened = optuna.create_study(
                storage=storage,
                study_name=plan.name,
                direction="maximize" if self._space.objective.maximize else "minimize",
                pruner=pruner,
            )
        recorded = opened.user_attrs
        if record.ABOUT not in recorded:
            opened.set_user_attr(record.ABOUT, record.about_study(plan, self._space, images))
        study = _Study(
            plan=plan,
            optuna=opened,
            baselines=deque(
                baseline
                for baseline in whole.baselines
                if baseline.study == plan.name
                and record.baseline_key(baseline.method, baseline.backbone) not in recorded
            ),
        )
        for key, value in recorded.items():
            if key.startswith((record.FINAL_PREFIX, record.BASELINE_PREFIX)):
                self._count(value["run"])
        for trial in opened.get_trials(deepcopy=False):
            self._count(trial.user_attrs.get(record.RUN, {}))
            if trial.state is not TrialState.WAITING:  # enqueued, but not asked for yet
                study.asked += 1
            if trial.state is TrialState.RUNNING:
                study.unfinished.append(trial.number)
        return study

    def _count(self, run: Mapping[str, Any]) -> None:
        """Add what one piece of work asked of prefixes to the totals."""
        self._asked_flops += run.get("prefix_flops_asked", 0.0)
        self._computed_flops += run.get("prefix_flops_computed", 0.0)

    def _next_of(self, study: _Study) -> Work | None:
        if study.unfinished:
            return self._take_up(study, number=study.unfinished.popleft())
        if study.baselines:
            baseline = study.baselines.popleft()
            task = record.baseline_task(baseline, study.plan, self._space)
            return self._hand_out(
                Work(
                    kind=Kind.BASELINE,
                    study=baseline.study,
                    trial_id=baseline.trial_id,
                    task=task,
                )
            )
        if study.asked < study.plan.trials and not self.past_deadline:
            return self._ask(study)
        if study.finals is None and not study.running:
            study.finals = deque(self._final_work(study))
        if study.finals:
            return self._hand_out(study.finals.popleft())
        return None

    def _hand_out(
        self, work: Work, trial: optuna.Trial | None = None, reported: Iterable[int] = ()
    ) -> Work:
        self._live[work.work_id] = _Live(work=work, trial=trial, reported=set(reported))
        return work

    def _ask(self, study: _Study) -> Work:
        start = time.perf_counter()
        number = study.asked
        study.asked += 1
        if self._grid is not None:
            self._enqueue(study, optuna_params(self._grid[number], self._space))
        elif number == 0 and isinstance(self._space.sampler, TpeSection):
            self._warm_start(study)
        study.optuna.sampler = make_sampler(self._space, study=study.plan.name, number=number)
        work = self._planned(study, study.optuna.ask(), attempt=0)
        self.seconds.ask += time.perf_counter() - start
        self.seconds.asks += 1
        return work

    def _take_up(self, study: _Study, *, number: int) -> Work:
        """Hand out a trial that was running when the sweep died, under its own parameters."""
        study.optuna.sampler = make_sampler(self._space, study=study.plan.name, number=number)
        frozen = study.optuna.get_trials(deepcopy=False)[number]
        begun = frozen.user_attrs.get(record.PLAN)  # none where death came amid the ask
        return self._planned(
            study,
            optuna.Trial(study.optuna, frozen._trial_id),
            attempt=begun["attempt"] + 1 if begun else 0,
            reported=frozen.intermediate_values,
        )

    def _planned(
        self,
        study: _Study,
        trial: optuna.Trial,
        *,
        attempt: int,
        reported: Iterable[int] = (),
    ) -> Work:
        """The work of an Optuna trial; what was suggested to it before is suggested again."""
        params = suggest(self._space, trial)
        spec = self._space.spec(params, study.plan.budget).to_json()
        trial.set_user_attr(record.PLAN, {"params": params, "spec": spec, "attempt": attempt})
        work = Work(
            kind=Kind.TRIAL,
            study=study.plan.name,
            trial_id=record.trial_id(study.plan.name, trial.number),
            task=spec,
            attempt=attempt,
        )
        return self._hand_out(work, trial, reported)

    def _warm_start(self, study: _Study) -> None:
        """Let a study begin with the best parameters, never the values, of the one below it."""
        names = list(self._studies)
        position = names.index(study.plan.name)
        if position == 0:
            return
        below = self._studies[names[position - 1]].optuna
        if below.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            self._enqueue(study, below.best_trial.params)

    def _enqueue(self, study: _Study, params: Mapping[str, Any]) -> None:
        """Make these the parameters of the next ask, unless it has some from before a resume."""
        if not study.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.optuna.enqueue_trial(dict(params))

    def _report(
        self, live: _Live, trial: optuna.Trial, event: Event, report: Mapping[str, Any]
    ) -> bool:
        number = int(report["report"])
        if event.facts is not None:
            trial.set_user_attr(record.FACTS, event.facts)
        if number not in live.reported:
            trial.set_user_attr(record.report_key(number), dict(report))
            trial.report(report["val_objective"], step=number)
            live.reported.add(number)
        if event.done:
            return False
        if self.past_deadline:
            live.event = replace(event, failure=Failure.TIME_LIMIT)
            return True
        # Pruners judge the newest report: one that an earlier attempt got beyond was judged then.
        return number == max(live.reported) and trial.should_prune()

    def _final_work(self, study: _Study) -> list[Work]:
        complete = study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        finalists = choose_finalists(
            complete, count=self._space.finalists.count, metric=self._space.objective
        )
        recorded = study.optuna.user_attrs
        work = [
            Work(
                kind=Kind.FINAL,
                study=study.plan.name,
                trial_id=record.trial_id(study.plan.name, trial.number),
                task={**trial.user_attrs[record.FACTS]["spec"], "repeat": repeat},
                repeat=repeat,
            )
            for trial in finalists
            for repeat in range(self._space.finalists.repeats)
        ]
        return [final for final in work if record.result_key(final) not in recorded]


def _tell(
    study: optuna.Study, trial: optuna.Trial, event: Event | None, run: dict[str, Any]
) -> None:
    """Settle a trial: complete with its last report, pruned where it was stopped, else failed."""
    trial.set_user_attr(record.RUN, run)
    stopped = event is not None and not event.done and run["failure"] is None
    if stopped or run["failure"] in {Failure.NONFINITE, Failure.TIME_LIMIT}:
        study.tell(trial, state=TrialState.PRUNED)
    elif run["failure"] is not None or event is None or event.report is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, event.report["val_objective"])
