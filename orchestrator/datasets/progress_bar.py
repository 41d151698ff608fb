"""How far the reading of a data set is, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY = 256


@contextmanager
def reading_bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr if that is a terminal; yields what to call for each example."""
    if not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if done % _EVERY == 0:  # an update per file would take longer than reading it
                progress.update(task, completed=done)

        yield step
