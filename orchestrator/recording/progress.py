"""Progress of a sweep, computed from its studies, running or finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.methods import Method
from orchestrator.planning.inputs import backbones
from orchestrator.planning.plan import Plan, largest_value, trials_per_study
from orchestrator.planning.work import Kind
from orchestrator.recording import user_attributes
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.recording.time_left import Training
from orchestrator.space import SearchSpace
from trainable.spec.settings import automatic_batch_size


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """Progress of the study of one label budget.

    Attributes:
        study: name of the study.
        labels_per_class: labels per class of the budget; of masks, labelled examples in all.
        unit: what that counts, in words.
        total: trials planned.
        running: trials that were asked for and have not settled.
        complete: trials that ran to their end.
        pruned: trials that ended early.
        failed: trials that failed.
        best: best objective of a complete trial, or None.
        others_done: finals and baselines recorded.
        others_total: finals and baselines expected.
        others_failed: finals and baselines without a result.
        finals_done: finals recorded; `others_done` includes them.
        finals_total: finals expected.
        steps: updates of a trial or final; the maximum if they differ.
        updates_done: updates that its trials have reported.
        updates_due: updates that its running trials will report next.
        updates_left: updates not reported yet, assuming that no other trial is pruned.
        finished: whether no work is left for it.
    """

    study: str
    labels_per_class: float
    unit: str
    total: int
    running: int
    complete: int
    pruned: int
    failed: int
    best: float | None
    others_done: int
    others_total: int
    others_failed: int
    finals_done: int
    finals_total: int
    steps: int
    updates_done: float
    updates_due: float
    updates_left: float
    finished: bool

    @property
    def settled(self) -> int:
        """Number of trials that have ended."""
        return self.complete + self.pruned + self.failed

    @property
    def failures(self) -> int:
        """Number of trials, finals and baselines that failed."""
        return self.failed + self.others_failed


def measure(space: SearchSpace, studies: Mapping[str, optuna.Study]) -> list[StudyProgress]:
    """Return the progress of every study of a sweep, in their order."""
    return [_measure_one(space, name, study) for name, study in studies.items()]


def training(plan: Plan, progress: Sequence[StudyProgress], *, busy: int) -> Training:
    """Return the done and remaining training of a sweep.

    One update of a trial processes one batch per fold; larger budgets use larger batches. Finals
    train once, on the whole budget. Baselines have no updates and do not count.

    Args:
        plan: plan of the sweep.
        progress: progress of its studies, in their order.
        busy: number of pieces of work in progress; finals report nothing until they end.
    """
    done = due = left = largest_final = 0.0
    for study, state in zip(plan.studies, progress, strict=True):
        batch = automatic_batch_size(study.labels_used)
        final = batch * state.steps
        finals_left = state.finals_total - state.finals_done
        done += batch * study.folds * state.updates_done + final * state.finals_done
        due += batch * study.folds * state.updates_due
        left += batch * study.folds * state.updates_left + final * finals_left
        if finals_left:
            largest_final = max(largest_final, final)
    others = busy - sum(state.running for state in progress)
    return Training(done, min(left, due + others * largest_final), left)


def _measure_one(space: SearchSpace, name: str, study: optuna.Study) -> StudyProgress:
    counts = dict.fromkeys(TrialState, 0)
    values = []
    most_steps = largest_value(space, "steps")
    updates_done = updates_due = updates_left = 0.0
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
        told, due, left = _updates(trial, most_steps)
        updates_done, updates_due = updates_done + told, updates_due + due
        updates_left += left
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            values.append(trial.value)
    attributes = stored_attributes(study)
    others = list(user_attributes.outcomes(attributes))
    finals_done = sum(outcome.kind is Kind.FINAL for outcome in others)
    trials, finished = trials_per_study(space), user_attributes.FINISHED in attributes
    may_complete = trials - counts[TrialState.PRUNED] - counts[TrialState.FAIL]
    finals = min(space.finalists.count, may_complete) * space.finalists.repeats
    baselines = attributes[user_attributes.ABOUT].get(
        "most_baselines", _baselines_before_0_2(space)
    )
    expected = finals + baselines
    untried = trials - sum(counts[state] for state in TrialState if state is not TrialState.WAITING)
    best = max if space.objective.maximize else min
    return StudyProgress(
        study=name,
        labels_per_class=attributes[user_attributes.ABOUT]["label_budget"],
        unit=user_attributes.budget_unit(attributes[user_attributes.ABOUT]),
        total=trials,
        running=counts[TrialState.RUNNING],
        complete=counts[TrialState.COMPLETE],
        pruned=counts[TrialState.PRUNED],
        failed=counts[TrialState.FAIL],
        best=best(values) if values else None,
        others_done=len(others),
        others_total=len(others) if finished else expected,
        others_failed=sum(outcome.value["result"] is None for outcome in others),
        finals_done=finals_done,
        finals_total=finals_done if finished else finals,
        steps=most_steps,
        updates_done=updates_done,
        updates_due=updates_due,
        updates_left=0.0 if finished else updates_left + max(0, untried) * most_steps,
        finished=finished,
    )


def _baselines_before_0_2(space: SearchSpace) -> int:
    """Return the number of baselines of a study of 0.1.0, which did not record it."""
    return sum(len(backbones(space)) if method == Method.PROBE else 1 for method in space.baselines)


def _updates(trial: FrozenTrial, most_steps: int) -> tuple[float, float, float]:
    """Return a trial's updates: reported, due with its next report, and not reported yet."""
    if trial.state is TrialState.WAITING:
        return 0.0, 0.0, 0.0
    spec = trial.user_attrs.get(user_attributes.PLAN, {}).get("spec", {})
    steps, reports = spec.get("steps", most_steps), spec.get("reports", 1)
    last = trial.last_step
    told = 0 if last is None else trial.user_attrs[user_attributes.report_key(last)]["step"]
    if trial.state is TrialState.RUNNING:
        # The first report is of the start, before any update.
        due = 0.0 if last is None else min(steps / reports, steps - told)
        return told, due, steps - told
    return told, 0.0, 0.0
