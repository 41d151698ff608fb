"""A look at a sweep from outside: its journal is read, nothing is written or locked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import optuna
from optuna.trial import TrialState

from orchestrator import record
from orchestrator.journal import is_locked
from orchestrator.journal_records import reading_contents
from orchestrator.progress import StudyProgress, measure
from orchestrator.projection import load_studies
from orchestrator.runs import Run
from orchestrator.space import SearchSpace, load_space
from trainable.spec import Metric


class RunState(StrEnum):
    """What a sweep is doing."""

    RUNNING = "running"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True)
class Inspection:
    """What was seen of a sweep.

    Attributes:
        state: whether it runs, could be resumed, or is over.
        objective: what its trials are judged by.
        progress: of each study, in ascending order of labels.
        failures: by trial (and repeat, of a final), why it failed or diverged.
    """

    state: RunState
    objective: Metric
    progress: list[StudyProgress]
    failures: dict[str, str]


def inspect(run: Run) -> Inspection:
    """Look at a sweep.

    Raises:
        UsageError: this is no sweep directory.
        StorageError: the journal is damaged.
    """
    space = load_space(run.space)
    with reading_contents(run.journal):
        progress, failures = _look(space, load_studies(run.path))
    if is_locked(run.journal):
        state = RunState.RUNNING
    elif progress and all(study.finished for study in progress):
        state = RunState.FINISHED
    else:
        state = RunState.UNFINISHED
    return Inspection(state, space.objective, progress, failures)


def _look(
    space: SearchSpace, studies: Mapping[str, optuna.Study]
) -> tuple[list[StudyProgress], dict[str, str]]:
    """The progress of each study, and what failed."""
    started = {name: s for name, s in studies.items() if record.ABOUT in record.attributes_of(s)}
    progress = measure(space, started)
    failures: dict[str, str] = {}
    for name, study in started.items():
        for trial in study.get_trials(deepcopy=False):
            run = trial.user_attrs.get(record.RUN, {})
            failed = run.get("failure") is not None
            if failed or trial.state is TrialState.FAIL:
                why = record.why_failed(run) if failed else "no reason recorded"
                failures[record.trial_id(name, trial.number)] = why
        attributes = record.attributes_of(study)
        for key, value in attributes.items():
            if key.startswith(record.FINAL_PREFIX) and value["result"] is None:
                why = record.why_failed(value["run"])
                failures[key.removeprefix(record.FINAL_PREFIX)] = why
            elif key.startswith(record.BASELINE_PREFIX) and value["result"] is None:
                baseline = record.recorded_baseline(name, attributes[record.ABOUT], value["task"])
                failures[baseline.trial_id] = record.why_failed(value["run"])
    return progress, failures
