"""The state of a sweep: running, unfinished or finished."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import optuna

from orchestrator.recording import user_attributes
from orchestrator.recording.journal import is_locked
from orchestrator.recording.journal_format import reading_contents
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.recording.progress import StudyProgress, measure
from orchestrator.recording.projection import load_studies
from orchestrator.recording.sweep_directory import Run
from orchestrator.space import load_space


class SweepState(StrEnum):
    """The state of a sweep."""

    RUNNING = "running"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


def begun_studies(run: Run) -> dict[str, optuna.Study]:
    """Return the studies of a sweep that have records; a crash at its start leaves some without.

    Raises:
        UsageError: this is not a sweep directory.
        StorageError: the journal is damaged.
    """
    return {
        name: study
        for name, study in load_studies(run.path).items()
        if user_attributes.ABOUT in stored_attributes(study)
    }


def state_of(run: Run, progress: Sequence[StudyProgress] | None = None) -> SweepState:
    """Return the state of a sweep; nothing is written or locked.

    Args:
        run: the sweep.
        progress: progress of its `begun_studies`; None to read it from the journal.

    Raises:
        UsageError: this is not a sweep directory.
        StorageError: the journal is damaged.
    """
    if is_locked(run.journal):
        return SweepState.RUNNING
    if progress is None:
        space = load_space(run.space)
        with reading_contents(run.journal):
            progress = measure(space, begun_studies(run))
    finished = bool(progress) and all(study.finished for study in progress)
    return SweepState.FINISHED if finished else SweepState.UNFINISHED
