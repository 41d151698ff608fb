"""What a sweep is doing: whether it runs, could be resumed, or is finished."""

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
    """What a sweep is doing."""

    RUNNING = "running"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


def begun_studies(run: Run) -> dict[str, optuna.Study]:
    """The studies of a sweep that have begun; a death amid the start leaves others without records.

    Raises:
        UsageError: this is no sweep directory.
        StorageError: the journal is damaged.
    """
    return {
        name: study
        for name, study in load_studies(run.path).items()
        if user_attributes.ABOUT in stored_attributes(study)
    }


def state_of(run: Run, progress: Sequence[StudyProgress] | None = None) -> SweepState:
    """What a sweep is doing; nothing is written or locked.

    Args:
        run: the sweep.
        progress: of its `begun_studies`; None to read it from the journal.

    Raises:
        UsageError: this is no sweep directory.
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
