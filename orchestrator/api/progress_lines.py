"""What a running sweep says on stderr: notes on its images, and a line about progress now and then.

It draws nothing, so that it suits logs and the output of a notebook's cell.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from orchestrator.recording.time_left import TimeLeft
from orchestrator.space import SearchSpace
from orchestrator.text import duration, number, percent, plural, printable_lines
from orchestrator.throttle import Throttled
from trainable.spec.metrics import Metric

if TYPE_CHECKING:
    from orchestrator.planning.plan import Plan
    from orchestrator.planning.preparation import Prepared
    from orchestrator.planning.work import Activity
    from orchestrator.recording.progress import StudyProgress

STARTING = "starting"

STOPPING = "stopping: what has settled is kept; once more (Ctrl-C) ends at once"

LINE_EVERY_S = 10.0
"""Shortest time between two lines about progress, in seconds."""

MOST_DETAILS = 5
"""Details of a note on stderr; sweep.log has all."""


class ProgressLines:
    """Prints progress on stderr; call it with the plan and the progress of its studies.

    Args:
        space: of the sweep.
        beginning: the first line.
    """

    def __init__(self, space: SearchSpace, *, beginning: str = STARTING) -> None:
        self._metric = space.objective
        self._beginning = beginning
        self._time_left = TimeLeft(time.monotonic)
        self._print_when_due = Throttled(
            self._print, every_s=LINE_EVERY_S, at_once=True, clock=time.monotonic
        )
        self._last_line = ""

    def __enter__(self) -> Self:
        print_message(self._beginning)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress], activity: Activity) -> None:
        """Show the present state."""
        from orchestrator.recording.progress import training

        left_s = self._time_left(training(plan, progress, busy=activity.busy))
        self._show(progress, _in_words(activity, left_s=left_s))

    def print_message(self, message: str) -> None:
        """Show a message at once."""
        print_message(message)

    def stopping(self) -> None:
        """Say at once that the sweep ends, and how to end it sooner."""
        # Not through sys.stderr: a signal may have come while that was being written to.
        with contextlib.suppress(OSError):
            os.write(2, f"{STOPPING}\n".encode())

    def _show(self, progress: Sequence[StudyProgress], words: str) -> None:
        """Print a line where there is something new and the last one was a while ago."""
        line = " | ".join([*_counts(progress, self._metric), words])
        if line == self._last_line:
            return
        if all(study.finished for study in progress):
            self._print(line)
        else:
            self._print_when_due(line)

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._last_line = line


def print_message(message: str) -> None:
    """Print a message on stderr at once, without what could steer a terminal."""
    print(printable_lines(message), file=sys.stderr, flush=True)


def print_notes(prepared: Prepared) -> None:
    """Print what to know of the images on stderr."""
    for note in prepared.notes:
        print_message("\n".join(note.lines(MOST_DETAILS)))


def score(value: float | None, metric: Metric) -> str:
    """A score as progress shows it: a share as a percentage, a loss as it is; nothing for None."""
    return number(value) if metric is Metric.LOG_LOSS else percent(value)


def _in_words(activity: Activity, *, left_s: float | None) -> str:
    """What holds for the sweep as a whole."""
    parts = [f"{activity.busy} of {plural(activity.slots, 'slot')} busy"]
    if activity.saved_fraction is not None:
        parts.append(f"{percent(activity.saved_fraction)} % of prefix work saved")
    if left_s is not None:
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)


def _counts(progress: Sequence[StudyProgress], metric: Metric) -> list[str]:
    """What holds for each budget that has begun."""
    parts = [
        f"{number(study.labels_per_class)} labels: {study.settled}/{study.total} settled"
        f" ({study.running} running, {study.pruned} pruned, {study.failed} failed),"
        f" best {score(study.best, metric) or 'open'},"
        f" finals {study.others_done}/{study.others_total}"
        for study in progress
        if study.settled or study.running or study.others_done
    ]
    return parts or ["waiting for the first actor"]
