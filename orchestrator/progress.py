"""How far a sweep is: counted from its studies, running or finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from orchestrator import record
from orchestrator.inputs import backbones
from orchestrator.plan import Plan, trials_per_study
from orchestrator.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """One label budget, so far.

    Attributes:
        study: its name.
        labels_per_class: of the budget.
        total: trials planned.
        running: trials asked for and not settled.
        complete: trials that ran to their end.
        pruned: trials that were stopped.
        failed: trials that failed.
        best: best objective of a complete trial, or None.
        others_done: finals and baselines recorded.
        others_total: finals and baselines expected.
        others_failed: finals and baselines without a result.
        finished: whether the sweep has no work left for it.
    """

    study: str
    labels_per_class: float
    total: int
    running: int
    complete: int
    pruned: int
    failed: int
    best: float | None
    others_done: int
    others_total: int
    others_failed: int
    finished: bool

    @property
    def settled(self) -> int:
        """Trials that are over."""
        return self.complete + self.pruned + self.failed

    @property
    def failures(self) -> int:
        """Whatever failed."""
        return self.failed + self.others_failed


def measure(space: SearchSpace, studies: Mapping[str, optuna.Study]) -> list[StudyProgress]:
    """The progress of every study of a sweep, in their order."""
    return [_measure_one(space, name, study) for name, study in studies.items()]


def remaining_share(plan: Plan, progress: Sequence[StudyProgress]) -> float:
    """Share of the sweep's work that is left, 0..1, by the images that its updates pass over.

    A trial weighs its batch times its folds: budgets of more labels take larger batches. Finals
    train once, on the whole budget.
    """
    done = total = 0.0
    for study, state in zip(plan.studies, progress, strict=True):
        batch = min(64, max(16, study.labels_used))
        total += batch * (study.folds * state.total + state.others_total)
        done += batch * (study.folds * state.settled + state.others_done)
    return 1 - done / total if total else 0.0


def _measure_one(space: SearchSpace, name: str, study: optuna.Study) -> StudyProgress:
    counts = dict.fromkeys(TrialState, 0)
    values = []
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            values.append(trial.value)
    attributes = record.attributes_of(study)
    prefixes = (record.FINAL_PREFIX, record.BASELINE_PREFIX)
    others = [value for key, value in attributes.items() if key.startswith(prefixes)]
    trials = trials_per_study(space)
    expected = min(space.finalists.count, trials) * space.finalists.repeats
    expected += attributes[record.ABOUT].get("most_baselines", _baselines_before_0_2(space))
    best = max if space.objective.maximize else min
    return StudyProgress(
        study=name,
        labels_per_class=attributes[record.ABOUT]["label_budget"],
        total=trials,
        running=counts[TrialState.RUNNING],
        complete=counts[TrialState.COMPLETE],
        pruned=counts[TrialState.PRUNED],
        failed=counts[TrialState.FAIL],
        best=best(values) if values else None,
        others_done=len(others),
        others_total=len(others) if record.FINISHED in attributes else expected,
        others_failed=sum(value["result"] is None for value in others),
        finished=record.FINISHED in attributes,
    )


def _baselines_before_0_2(space: SearchSpace) -> int:
    """Baselines of a study by version 0.1.0, which did not record their number."""
    each = {"pixels": 1, "probe": len(backbones(space))}
    return sum(each[method] for method in space.baselines)
