"""Progress of a running sweep on stderr: a live table on a terminal, lines otherwise."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator.recording.time_left import TimeLeft
from orchestrator.space import SearchSpace
from orchestrator.text import duration, number, percent, plain_lines, plural
from trainable.spec.trial_spec import Metric

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from orchestrator.planning.plan import Plan
    from orchestrator.planning.work import Activity
    from orchestrator.recording.progress import StudyProgress

_STOPPING = "stopping: what has settled is kept; once more (Ctrl-C) ends at once"

LINE_EVERY_S = 10.0
"""Shortest time between two progress lines if stderr is no terminal, in seconds."""


class ProgressView:
    """The `View` of a sweep on stderr; a context manager, called with each new state.

    Args:
        space: the search space; its objective is the metric shown.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._metric = space.objective
        self._time_left = TimeLeft(time.monotonic)
        self._live: Live | None = None
        self._next_line = 0.0
        self._last_line = ""
        self._stopping = False
        self._shown: tuple[Sequence[StudyProgress], str] = ((), "starting")

    def __enter__(self) -> ProgressView:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._render,
                console=Console(stderr=True),
                refresh_per_second=4,
                redirect_stdout=False,  # the cluster's context redirects it, and ends first
            )
            self._live.start()
        else:
            print("starting", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress], activity: Activity) -> None:
        """Show the current state; without a terminal, at most every `LINE_EVERY_S` seconds."""
        from orchestrator.recording.progress import training

        left_s = self._time_left(training(plan, progress, busy=activity.busy))
        words = _activity_text(activity, left_s=left_s)
        self._shown = progress, words
        if self._live is not None:
            return  # the live table redraws itself four times a second
        line = " | ".join([*_counts(progress, self._metric), words])
        over = all(study.finished for study in progress)
        if line != self._last_line and (over or time.monotonic() >= self._next_line):
            print(line, file=sys.stderr, flush=True)
            self._last_line = line
            self._next_line = time.monotonic() + LINE_EVERY_S

    def tell(self, message: str) -> None:
        """Print a message at once, above the table if there is one."""
        text = plain_lines(message)
        if self._live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._live.console.print(text, markup=False, highlight=False)

    def stopping(self) -> None:
        """Say that the sweep is ending, and how to end it at once.

        Safe inside a signal handler.
        """
        self._stopping = True
        if self._live is None:
            # sys.stderr is not reentrant, and the signal may have interrupted a write to it.
            with contextlib.suppress(OSError):
                os.write(2, f"{_STOPPING}\n".encode())

    def _render(self) -> Table:
        progress, words = self._shown
        caption = f"{words}\n{_STOPPING}" if self._stopping else words
        return progress_table(progress, self._metric, caption=caption)


def progress_table(
    progress: Sequence[StudyProgress], metric: Metric, *, caption: str | None = None
) -> Table:
    """A table with one row per label budget.

    Args:
        progress: progress of each study.
        metric: metric of the best score.
        caption: text below the table.
    """
    from rich.table import Table

    table = Table(caption=caption, caption_justify="left")
    for name, options in _COLUMNS.items():
        table.add_column(name.format(metric=metric.value.replace("_", " ")), **options)
    for study in progress:
        table.add_row(
            number(study.labels_per_class),
            f"{study.settled}/{study.total}",
            str(study.running),
            str(study.complete),
            str(study.pruned),
            str(study.failed),
            _score(study.best, metric),
            f"{study.others_done}/{study.others_total}",
        )
    return table


_COLUMNS: dict[str, dict[str, Any]] = {
    "labels per class": {"justify": "right"},
    "settled": {"justify": "right"},
    "running": {"justify": "right"},
    "complete": {"justify": "right"},
    "pruned": {"justify": "right"},
    "failed": {"justify": "right"},
    "best {metric}": {"justify": "right"},
    "finals and baselines": {"justify": "right"},
}


def _score(value: float | None, metric: Metric) -> str:
    return number(value) if metric is Metric.LOG_LOSS else percent(value)


def _activity_text(activity: Activity, *, left_s: float | None) -> str:
    """Busy slots, saved prefix work and time left, in words."""
    parts = [f"{activity.busy} of {plural(activity.slots, 'slot')} busy"]
    if activity.saved_fraction is not None:
        parts.append(f"{percent(activity.saved_fraction)} % of prefix work saved")
    if left_s is not None:
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)


def _counts(progress: Sequence[StudyProgress], metric: Metric) -> list[str]:
    """One text per label budget that has begun."""
    parts = [
        f"{number(study.labels_per_class)} labels: {study.settled}/{study.total} settled"
        f" ({study.running} running, {study.pruned} pruned, {study.failed} failed),"
        f" best {_score(study.best, metric) or 'open'},"
        f" finals {study.others_done}/{study.others_total}"
        for study in progress
        if study.settled or study.running or study.others_done
    ]
    return parts or ["waiting for the first actor"]
