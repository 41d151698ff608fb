"""The remaining work of one label budget: baselines, then trials, then finals.

Except for the set of running work, the state is derived from the budget's Optuna study and so from
the journal: a queue that is opened again continues where the journal ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.planning.plan import Baseline, Plan, StudyPlan, largest_value, probe_beside
from orchestrator.planning.work import Kind, Work
from orchestrator.recording import user_attributes
from orchestrator.recording.optuna_internals import begun_trial
from orchestrator.running.broker.finalists import choose_finalists, probe_standings
from orchestrator.running.broker.pruners import make_pruner
from orchestrator.running.broker.samplers import (
    make_sampler,
    optuna_params,
    shuffled_grid,
    suggest,
)
from orchestrator.space import SearchSpace
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.trial_spec import TrialSpec


@dataclass(frozen=True)
class QueuedWork:
    """A piece of work that is ready to run.

    Attributes:
        work: the work.
        trial: its Optuna trial; None for a baseline or a final.
        reported: numbers of the reports that earlier attempts left in the journal.
    """

    work: Work
    trial: optuna.Trial | None = None
    reported: frozenset[int] = frozenset()


class StudyQueue:
    """The work of one label budget that has not started yet.

    Args:
        storage: Optuna storage of the sweep; the study is created there if it does not exist.
        space: the search space.
        plan: plan of the sweep.
        study: plan of this budget's study.
        images: images of the sweep; the test images are recorded with the study.
        below: queue of the next smaller budget, for the warm start; None for the smallest.

    Attributes:
        study: the Optuna study.
    """

    def __init__(
        self,
        storage: optuna.storages.JournalStorage,
        space: SearchSpace,
        plan: Plan,
        study: StudyPlan,
        images: LabelledExamples,
        *,
        below: StudyQueue | None,
    ) -> None:
        self._space = space
        self._plan = study
        self._below = below
        self._grid = shuffled_grid(space) if space.sampler.every_combination else None
        self.study = self._open(storage, images)
        recorded = self.study.user_attrs
        planned = [baseline for baseline in plan.baselines if baseline.study == study.name]
        self._planned_baselines = [_key(baseline) for baseline in planned]
        self._baselines = deque(one for one in planned if _key(one) not in recorded)
        trials = self.study.get_trials(deepcopy=False)
        # Waiting trials are enqueued but not asked for yet.
        self._asked = sum(trial.state is not TrialState.WAITING for trial in trials)
        self._unfinished = deque(
            trial.number for trial in trials if trial.state is TrialState.RUNNING
        )
        self._finals: deque[Work] | None = None
        self._running: set[str] = set()

    def next(self, *, trying: bool) -> QueuedWork | None:
        """The next piece of work; None if there is none, or while finals wait for running work.

        Args:
            trying: whether new trials may start; if not, finals follow without them.
        """
        queued = self._next(trying=trying)
        if queued is not None:
            self._running.add(queued.work.work_id)
        return queued

    def settled(self, work_id: str) -> None:
        """Note that a running piece of work has ended."""
        self._running.discard(work_id)

    def waiting(self, *, trying: bool) -> int:
        """Number of pieces of work that could start now, given enough slots.

        Args:
            trying: whether new trials may start.
        """
        trials = self._plan.trials - self._asked if trying else 0
        return trials + len(self._unfinished) + len(self._baselines) + len(self._finals or ())

    def close(self) -> None:
        """Record in the study that its work is finished."""
        if user_attributes.FINISHED not in self.study.user_attrs:
            self.study.set_user_attr(user_attributes.FINISHED, True)

    def recorded_runs(self) -> Iterator[Mapping[str, Any]]:
        """Yield the run facts of each piece of work in the journal; {} for an unsettled trial."""
        for outcome in user_attributes.outcomes(self.study.user_attrs):
            yield outcome.value["run"]
        for trial in self.study.get_trials(deepcopy=False):
            yield trial.user_attrs.get(user_attributes.RUN, {})

    def _open(
        self, storage: optuna.storages.JournalStorage, images: LabelledExamples
    ) -> optuna.Study:
        pruner = make_pruner(self._space, reports=largest_value(self._space, "reports"))
        name = self._plan.name
        if name in {study.study_name for study in storage.get_all_studies()}:
            opened = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        else:  # create_study(load_if_exists=True) would write a record on every resume
            opened = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize" if self._space.objective.maximize else "minimize",
                pruner=pruner,
            )
        if user_attributes.ABOUT not in opened.user_attrs:
            about = user_attributes.about_study(self._plan, self._space, images)
            opened.set_user_attr(user_attributes.ABOUT, about)
        return opened

    def _next(self, *, trying: bool) -> QueuedWork | None:
        if self._unfinished:
            return self._resume_trial(self._unfinished.popleft())
        if self._baselines:
            return QueuedWork(self._baseline(self._baselines.popleft()))
        if trying and self._asked < self._plan.trials:
            return self._ask()
        if self._finals is None and not self._running:
            self._finals = deque(self._final_work())
        return QueuedWork(self._finals.popleft()) if self._finals else None

    def _baseline(self, baseline: Baseline) -> Work:
        return Work(
            kind=Kind.BASELINE,
            study=baseline.study,
            trial_id=baseline.trial_id,
            task=user_attributes.baseline_task(baseline, self._plan, self._space),
        )

    def _ask(self) -> QueuedWork:
        number = self._asked
        self._asked += 1
        if self._grid is not None:
            self._enqueue(optuna_params(self._grid[number], self._space))
        elif number == 0 and self._space.sampler.learns:
            self._warm_start()
        self._seed(number)
        return self._planned(self.study.ask(), attempt=0)

    def _resume_trial(self, number: int) -> QueuedWork:
        """The next attempt of a trial that was running when the driver died; same parameters."""
        self._seed(number)
        frozen = self.study.get_trials(deepcopy=False)[number]
        previous = frozen.user_attrs.get(user_attributes.PLAN)  # None if it died in the ask
        return self._planned(
            begun_trial(self.study, number),
            attempt=previous["attempt"] + 1 if previous else 0,
            reported=frozenset(frozen.intermediate_values),
        )

    def _planned(
        self, trial: optuna.Trial, *, attempt: int, reported: frozenset[int] = frozenset()
    ) -> QueuedWork:
        """The work of an Optuna trial; parameters that it already has are suggested again.

        Args:
            trial: the Optuna trial.
            attempt: number of the attempt.
            reported: numbers of the reports in the journal.
        """
        params = suggest(self._space, trial)
        spec = self._space.spec(params, self._plan.budget).to_json()
        trial.set_user_attr(
            user_attributes.PLAN, {"params": params, "spec": spec, "attempt": attempt}
        )
        work = Work(
            kind=Kind.TRIAL,
            study=self._plan.name,
            trial_id=user_attributes.trial_id(self._plan.name, trial.number),
            task=spec,
            attempt=attempt,
        )
        return QueuedWork(work, trial, reported)

    def _seed(self, number: int) -> None:
        """Seed the sampler by the trial's number, so that a resume does not change proposals."""
        self.study.sampler = make_sampler(self._space, study=self._plan.name, number=number)

    def _warm_start(self) -> None:
        """Enqueue the best parameters (never the values) of the next smaller budget."""
        if self._below is None:
            return
        study = self._below.study
        if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            self._enqueue(study.best_trial.params)

    def _enqueue(self, params: Mapping[str, Any]) -> None:
        """Enqueue parameters for the next ask, unless an interrupted run has enqueued some."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial(dict(params))

    def _final_work(self) -> list[Work]:
        """The unrecorded finals, preceded by the probes that finalists' image sizes still need."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        recorded = self.study.user_attrs
        planned = {key: recorded[key] for key in self._planned_baselines if key in recorded}
        finalists = choose_finalists(
            complete,
            count=self._space.finalists.count,
            metric=self._space.objective,
            # Late probes depend on the finalists, so they must not affect the choice on a resume.
            probes=probe_standings(planned, self._space.objective),
        )
        beside = (self._probe_beside(trial) for trial in finalists)
        probes = [
            self._baseline(probe)
            for probe in dict.fromkeys(filter(None, beside))
            if _key(probe) not in recorded
        ]
        finals = [
            Work(
                kind=Kind.FINAL,
                study=self._plan.name,
                trial_id=user_attributes.trial_id(self._plan.name, trial.number),
                task={**user_attributes.resolved_spec(trial), "repeat": repeat},
                repeat=repeat,
            )
            for trial in finalists
            for repeat in range(self._space.finalists.repeats)
        ]
        return [
            *probes,
            *(one for one in finals if user_attributes.result_key(one) not in recorded),
        ]

    def _probe_beside(self, trial: FrozenTrial) -> Baseline | None:
        """The probe with a trial's backbone, image size and precision; None without probes."""
        spec = TrialSpec.from_json(trial.user_attrs[user_attributes.PLAN]["spec"])
        return probe_beside(self._space, self._plan.name, spec)


def _key(baseline: Baseline) -> str:
    return user_attributes.baseline_key(baseline.method, baseline.backbone, baseline.variant)
