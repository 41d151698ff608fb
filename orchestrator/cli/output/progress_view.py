"""Progress of a running sweep on stderr: a live table on a terminal, lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from orchestrator.api.progress_lines import STARTING, STOPPING, ProgressLines, score
from orchestrator.space import SearchSpace
from orchestrator.text import metric_name, number, printable_lines
from trainable.spec.metrics import Metric

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from orchestrator.recording.progress import StudyProgress


class ProgressView(ProgressLines):
    """Shows progress on stderr; call it with the plan and the progress of its studies."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self._live: Live | None = None
        self._stopping = False
        self._shown: tuple[Sequence[StudyProgress], str] = ((), STARTING)

    def __enter__(self) -> Self:
        if not sys.stderr.isatty():
            return super().__enter__()
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            get_renderable=self._render,
            console=Console(stderr=True),
            refresh_per_second=4,
            redirect_stdout=False,  # the cluster has seen to that, and ends before this view
        )
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def print_message(self, message: str) -> None:
        """Show a message above the table at once."""
        if self._live is None:
            super().print_message(message)
        else:
            self._live.console.print(printable_lines(message), markup=False, highlight=False)

    def stopping(self) -> None:
        """Say that the sweep is ending, and how to end it at once.

        Safe inside a signal handler.
        """
        self._stopping = True
        if self._live is None:
            super().stopping()

    def _show(self, progress: Sequence[StudyProgress], words: str) -> None:
        """Keep what is there to be shown: a live table draws it four times a second."""
        self._shown = progress, words
        if self._live is None:
            super()._show(progress, words)

    def _render(self) -> Table:
        progress, words = self._shown
        caption = f"{words}\n{STOPPING}" if self._stopping else words
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
    unit = progress[0].unit if progress else "labels"
    for name, options in _COLUMNS.items():
        table.add_column(name.format(unit=unit, metric=metric_name(metric)), **options)
    for study in progress:
        table.add_row(
            number(study.labels_per_class),
            f"{study.settled}/{study.total}",
            str(study.running),
            str(study.complete),
            str(study.pruned),
            str(study.failed),
            score(study.best, metric),
            f"{study.others_done}/{study.others_total}",
        )
    return table


_COLUMNS: dict[str, dict[str, Any]] = {
    "{unit}": {"justify": "right"},
    "settled": {"justify": "right"},
    "running": {"justify": "right"},
    "complete": {"justify": "right"},
    "pruned": {"justify": "right"},
    "failed": {"justify": "right"},
    "best {metric}": {"justify": "right"},
    "finals and baselines": {"justify": "right"},
}
