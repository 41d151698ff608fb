"""The status of a sweep, from its journal; nothing is written or locked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from orchestrator.planning.work import Kind
from orchestrator.recording import user_attributes
from orchestrator.recording.journal_format import reading_contents
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.recording.progress import StudyProgress, measure
from orchestrator.recording.state import SweepState, begun_studies, state_of
from orchestrator.recording.sweep_directory import Run
from orchestrator.space import SearchSpace, load_space
from trainable.spec.metrics import Metric


@dataclass(frozen=True)
class SweepStatus:
    """The status of a sweep.

    Attributes:
        state: whether it runs, can be resumed, or is finished.
        objective: metric that its trials are ranked by.
        progress: progress of each study, in ascending order of labels.
        failures: reason of each failure or divergence, by id of the trial, final or baseline.
        losses: how the newest process was lost, by id of work that has not settled.
    """

    state: SweepState
    objective: Metric
    progress: list[StudyProgress]
    failures: dict[str, str]
    losses: dict[str, str]


def inspect(run: Run) -> SweepStatus:
    """Return the status of a sweep.

    Raises:
        UsageError: this is not a sweep directory.
        StorageError: the journal is damaged.
    """
    space = load_space(run.space)
    with reading_contents(run.journal):
        progress, failures, losses = _look(space, begun_studies(run))
    return SweepStatus(state_of(run, progress), space.objective, progress, failures, losses)


def _look(
    space: SearchSpace, studies: Mapping[str, optuna.Study]
) -> tuple[list[StudyProgress], dict[str, str], dict[str, str]]:
    """Return the progress of each study, failures, and losses of unsettled work."""
    progress = measure(space, studies)
    failures: dict[str, str] = {}
    losses: dict[str, str] = {}
    for name, study in studies.items():
        attributes = stored_attributes(study)
        settled = set()
        for trial in study.get_trials(deepcopy=False):
            run = trial.user_attrs.get(user_attributes.RUN, {})
            trial_id = user_attributes.trial_id(name, trial.number)
            failed = run.get("failure") is not None
            if failed or trial.state is TrialState.FAIL:
                failures[trial_id] = (
                    user_attributes.why_failed(run) if failed else "no reason recorded"
                )
            if trial.state.is_finished():
                settled.add(trial_id)
        for outcome in user_attributes.outcomes(attributes):
            work_id = _work_id(name, attributes[user_attributes.ABOUT], outcome)
            settled.add(work_id)
            if outcome.value["result"] is None:
                failures[work_id] = user_attributes.why_failed(outcome.value["run"])
        losses |= {
            work_id: loss
            for work_id, loss in user_attributes.losses(attributes).items()
            if work_id not in settled
        }
    return progress, failures, losses


def _work_id(study: str, about: Mapping[str, Any], outcome: user_attributes.Outcome) -> str:
    """Return the id of the work of a final or a baseline."""
    if outcome.kind is Kind.FINAL:
        trial_id, repeat = outcome.final_id
        return f"{trial_id}/{repeat}"
    return user_attributes.recorded_baseline(study, about, outcome.value["task"]).trial_id
