"""The use cases: launch a sweep, and take one up again."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

from orchestrator.errors import SweepError
from orchestrator.planning.preparation import Prepared, prepare_space, read_written_space
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.state import SweepState, state_of
from orchestrator.recording.stores import Place, mirrored
from orchestrator.recording.sweep_directory import (
    Run,
    check_root,
    create_run,
    update_manifest,
    write_manifest,
    write_text,
)
from orchestrator.running.background import BackgroundCall
from orchestrator.running.execution import Ended, SweepExecution, View
from orchestrator.running.resume_checks import (
    check_data,
    check_release,
    check_space,
    check_versions,
    provenance,
)
from orchestrator.signals import interrupted_between_imports
from orchestrator.space import SearchSpace, load_space
from trainable.backbones import shipped_modules
from trainable.data.labelled_images import LabelledImages

if TYPE_CHECKING:  # ray is imported when a sweep runs, not when one is looked at
    from orchestrator.running.ray_tune.capacity import Capacity


@dataclass(frozen=True, kw_only=True)
class EndedSweep:
    """A sweep on which this process has nothing more to do.

    Attributes:
        run: its directory.
        images: what it trained on; None if it was finished before, and nothing was read.
        signal: the signal that ended it early, or None.
        start: when the launch or resume began, in seconds of `time.monotonic`.
    """

    run: Run
    images: LabelledImages | None
    signal: int | None
    start: float

    @property
    def duration_s(self) -> float:
        """Wall-clock time since the launch or resume began."""
        return time.monotonic() - self.start


@contextmanager
def launch(
    space: SearchSpace,
    *,
    preparing: Callable[[], Prepared],
    root: Path | Place,
    address: str,
    viewing: Callable[[Prepared], AbstractContextManager[View]],
) -> Iterator[EndedSweep]:
    """Run a sweep in a new directory under `root`, or one that is copied there.

    What the block writes into the directory belongs to the sweep: it is copied with it.

    Args:
        space: what is asked.
        preparing: reads and checks what it names, in a thread while the cluster starts.
        root: where the directory is made.
        address: of the cluster.
        viewing: opens what shows how far the sweep is, once everything is read and checked.

    Raises:
        SpaceError, UsageError: what `preparing` raises; or the directory cannot be made there.
        StorageError: no cluster, no room, or a store that fails before the first trial or at the
            end.
    """
    check_root(root)
    start = time.monotonic()
    # Before the directory is made: without a cluster there is no sweep.
    with ExitStack() as stack:
        with _ready(space, preparing, address) as (prepared, capacity):
            view = stack.enter_context(viewing(prepared))
            run, opened = begin(root, prepared)
            with closing(opened) as journal:
                stack.enter_context(mirrored(run.path))
                ended = SweepExecution(
                    run, prepared, journal, capacity=capacity, view=view
                ).execute()
        yield _ended(run, prepared, ended, start)


def begin(root: Path | Place, prepared: Prepared) -> tuple[Run, SweepJournal]:
    """The directory of a new sweep with all that `resume` needs, and its journal, locked.

    The manifest comes last: a directory without one is no sweep.

    Raises:
        StorageError: something cannot be written.
    """
    run = create_run(root, prepared.space.name, now=datetime.now(tz=UTC))
    text = yaml.safe_dump(prepared.space.to_json(), sort_keys=False, allow_unicode=True)
    write_text(run.space, text)
    journal = SweepJournal(run.journal)
    try:
        write_manifest(run, provenance(prepared))
    except BaseException:
        journal.close()
        raise
    return run, journal


@contextmanager
def resume(
    run: Run, *, address: str, view: View, accept_changes: bool = False
) -> Iterator[EndedSweep]:
    """Do what is missing of a sweep: trials cut short, trials not yet tried, finalists.

    Nothing is done to a finished sweep. What the block writes into the directory is copied with it.

    Args:
        run: the sweep.
        address: of the cluster.
        view: shows how far it is.
        accept_changes: go on although versions of packages differ from those it ran with last.

    Raises:
        UsageError: another process runs the sweep; or its results would rest on something else
            than those that are there: another space, other images, weights or versions; or another
            minor version of this program began it, which `accept_changes` does not change.
        StorageError: no cluster, no room, or a store that fails before the first trial or at the
            end.
    """
    start = time.monotonic()
    manifest = run.read_manifest()
    finished = state_of(run) is SweepState.FINISHED
    if not finished:
        check_release(run, manifest)
    check_space(run, manifest, load_space(run.space))
    with mirrored(run.path):
        if finished:
            yield EndedSweep(run=run, images=None, signal=None, start=start)
            return
        prepared, ended = _go_on(
            run, manifest, address=address, view=view, accept_changes=accept_changes
        )
        yield _ended(run, prepared, ended, start)


def _go_on(
    run: Run, manifest: dict[str, Any], *, address: str, view: View, accept_changes: bool
) -> tuple[Prepared, Ended]:
    with closing(SweepJournal(run.journal)) as journal:
        check_versions(run, manifest, accept=accept_changes)
        space = read_written_space(run.space)
        with _ready(
            space, lambda: prepare_space(space, path=run.space, begun=True), address
        ) as ready:
            prepared, capacity = ready
            found = provenance(prepared)
            check_data(run, manifest, found)
            update_manifest(run, manifest, found)
            ended = SweepExecution(run, prepared, journal, capacity=capacity, view=view).execute()
    return prepared, ended


def _ended(run: Run, prepared: Prepared, ended: Ended, start: float) -> EndedSweep:
    return EndedSweep(
        run=run,
        images=prepared.images,
        signal=ended.signal,
        start=start,
    )


@contextmanager
def _ready(
    space: SearchSpace, preparing: Callable[[], Prepared], address: str
) -> Iterator[tuple[Prepared, Capacity]]:
    """Everything read and checked, and a cluster with how much fits on it.

    Reading goes on in a thread while the cluster starts, and while that is imported of Tune which
    does not import torch as the thread does. The cluster starts in the main thread: its processes
    die with the thread that made them. The user's own code runs in the main thread, too, and before
    the cluster starts, which gets its modules.
    """
    if space.custom:
        prepared = preparing()
        with _room(space, address) as capacity:
            yield prepared, capacity
        return
    with ExitStack() as stack:
        with interrupted_between_imports():
            reading = BackgroundCall(preparing)
            try:
                capacity = stack.enter_context(_room(space, address))
            except SweepError:
                reading.result()  # what is wrong with the data is told first, cluster or not
                raise
            importlib.import_module("orchestrator.running.ray_tune.algorithms")
        yield reading.result(), capacity


@contextmanager
def _room(space: SearchSpace, address: str) -> Iterator[Capacity]:
    """A cluster, and how much fits on it."""
    from orchestrator.running.ray_tune.capacity import capacity
    from orchestrator.running.ray_tune.cluster import LOCAL, cluster
    from orchestrator.running.ray_tune.nodes import check_nodes

    local = address == LOCAL
    with (
        cluster(address, modules=_shipped(space)),
        capacity(space.resources, elastic=not local) as found,
    ):
        if not local:
            check_nodes(address)
        yield found


def _shipped(space: SearchSpace) -> list[ModuleType]:
    """The user's own code that the processes of trials need."""
    found = (module for backbone in space.custom.values() for module in shipped_modules(backbone))
    return list(dict.fromkeys(found))
