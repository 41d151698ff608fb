"""How far a running sweep is: a live table on a terminal, lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render import duration, number, percent
from orchestrator.space import SearchSpace
from trainable.spec import Metric

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from orchestrator.plan import Plan
    from orchestrator.progress import StudyProgress

LINE_EVERY_S = 10.0
"""Shortest time between two lines where stderr is no terminal, in seconds."""


class ProgressView:
    """Shows progress on stderr; call it with the plan and the progress of its studies."""

    def __init__(self, space: SearchSpace) -> None:
        self._metric = space.objective
        self._start = time.monotonic()
        self._first_share: float | None = None
        self._live: Live | None = None
        self._next_line = 0.0
        self._last_line = ""

    def __enter__(self) -> ProgressView:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4)
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

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress]) -> None:
        """Show the present state."""
        left = self._time_left(plan, progress)
        if self._live is not None:
            self._live.update(progress_table(progress, self._metric, left_s=left))
            return
        line = _line(progress, self._metric, left_s=left)
        over = all(study.finished for study in progress)
        if line != self._last_line and (over or time.monotonic() >= self._next_line):
            print(line, file=sys.stderr, flush=True)
            self._last_line = line
            self._next_line = time.monotonic() + LINE_EVERY_S

    def _time_left(self, plan: Plan, progress: Sequence[StudyProgress]) -> float | None:
        """Seconds, if the rest goes as fast as what was done since the view began."""
        from orchestrator.progress import remaining_share

        share = remaining_share(plan, progress)
        if self._first_share is None:
            self._first_share, self._start = share, time.monotonic()
        done = self._first_share - share
        return (time.monotonic() - self._start) * share / done if done > 0.01 else None


def progress_table(
    progress: Sequence[StudyProgress], metric: Metric, *, left_s: float | None = None
) -> Table:
    """One row a label budget."""
    from rich.table import Table

    caption = None if left_s is None else f"about {duration(left_s)} left"
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


def _line(progress: Sequence[StudyProgress], metric: Metric, *, left_s: float | None) -> str:
    parts = [
        f"{number(study.labels_per_class)} labels: {study.settled}/{study.total} settled"
        f" ({study.pruned} pruned, {study.failed} failed), best {_score(study.best, metric)},"
        f" finals {study.others_done}/{study.others_total}"
        for study in progress
        if study.settled or study.running or study.others_done
    ]
    left = "" if left_s is None else f" | about {duration(left_s)} left"
    return " | ".join(parts or ["waiting for the first actor"]) + left
