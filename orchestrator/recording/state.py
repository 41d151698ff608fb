"""What a sweep is doing: whether it runs, could be resumed, or is finished."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from orchestrator.recording.journal import is_locked
from orchestrator.recording.journal_format import reading_contents
from orchestrator.recording.progress import StudyProgress, measure
from orchestrator.recording.projection import load_studies
from orchestrator.recording.sweep_directory import Run
from orchestrator.space import load_space


class SweepState(StrEnum):
    """What a sweep is doing."""

    RUNNING = "running"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


def state_of(run: Run, progress: Sequence[StudyProgress] | None = None) -> SweepState:
    """What a sweep is doing; nothing is written or locked.

    Args:
        run: the sweep.
        progress: of its studies that have begun; None to read it from the journal.

    Raises:
        UsageError: this is no sweep directory.
        StorageError: the journal is damaged.
    """
    if is_locked(run.journal):
        return SweepState.RUNNING
    if progress is None:
        space = load_space(run.space)
        with reading_contents(run.journal):
            progress = measure(space, load_studies(run.path))
    finished = bool(progress) and all(study.finished for study in progress)
    return SweepState.FINISHED if finished else SweepState.UNFINISHED
