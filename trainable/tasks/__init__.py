"""The tasks: what a label is, and so what a head is trained on and scored against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trainable.tasks.task import Outcomes, Targets, Task, joined

__all__ = ["Outcomes", "Targets", "Task", "joined", "task_called"]


def _classification() -> Task:
    from trainable.tasks.classification.task import CLASSIFICATION

    return CLASSIFICATION


_TASKS: Mapping[str, Callable[[], Task]] = {"classification": _classification}


def task_called(name: str) -> Task:
    """Return a task by its name."""
    return _TASKS[name]()
