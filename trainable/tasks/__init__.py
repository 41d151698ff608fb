"""The tasks: what a label is, and so what a head is trained on and scored against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trainable.errors import DataError
from trainable.tasks.task import Outcomes, Places, Scores, Targets, Task, TestResult, joined

__all__ = [
    "Outcomes",
    "Places",
    "Scores",
    "Targets",
    "Task",
    "TestResult",
    "joined",
    "task_called",
]


def _classification() -> Task:
    from trainable.tasks.classification.task import CLASSIFICATION

    return CLASSIFICATION


def _segmentation() -> Task:
    from trainable.tasks.segmentation.task import SEGMENTATION

    return SEGMENTATION


_TASKS: Mapping[str, Callable[[], Task]] = {
    "classification": _classification,
    "segmentation": _segmentation,
}


def task_called(name: str) -> Task:
    """Return a task by its name.

    Raises:
        DataError: nothing can be trained for it yet.
    """
    if name not in _TASKS:
        raise DataError(f"{name}: cannot be trained yet; allowed: {', '.join(_TASKS)}")
    return _TASKS[name]()
