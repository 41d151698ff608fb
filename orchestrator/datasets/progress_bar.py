"""A progress bar for reading images, if stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY = 256


@contextmanager
def reading_bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr if it is a terminal; yield a function to call per image."""
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
        task = progress.add_task(f"{what} images", total=total)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if done % _EVERY == 0:  # an update per file would take longer than reading it
                progress.update(task, completed=done)

        yield step
