"""The use cases of running: launch a sweep, and resume one."""

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
from orchestrator.garbage_collection import collecting_no_garbage
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
from orchestrator.signals import first_signal_afterwards, interrupted_at_safe_places
from orchestrator.space import SearchSpace, load_space
from trainable.backbones import shipped_modules
from trainable.data.labelled_examples import LabelledExamples

if TYPE_CHECKING:  # reading a sweep does not import ray
    from orchestrator.running.ray_tune.capacity import Capacity

_CLUSTER = "orchestrator.running.ray_tune.nodes"
_TUNE = "orchestrator.running.ray_tune.algorithms"
"""Modules that import what the start of a cluster needs of Ray, and Tune."""


@dataclass(frozen=True, kw_only=True)
class EndedSweep:
    """A launched or resumed sweep that has ended in this process.

    Attributes:
        run: directory of the sweep.
        images: images of the sweep; None if it had finished before and nothing was read.
        signal: the signal that ended it early, or None.
        start: start of the launch or resume, in seconds of `time.monotonic`.
    """

    run: Run
    images: LabelledExamples | None
    signal: int | None
    start: float

    @property
    def duration_s(self) -> float:
        """Wall-clock seconds since the launch or resume began."""
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
    """Run a sweep in a new directory under `root`; a store gets a copy of the directory.

    Files that the block writes into the directory are copied to the store as well.

    Args:
        space: the search space.
        preparing: reads and checks the space's images and weights; it runs in a thread while the
            cluster starts, unless the space names user code.
        root: folder or store in which the directory is made.
        address: address of the cluster, or `local`.
        viewing: opens the view of the sweep's progress, after `preparing` has returned.

    Yields:
        The ended sweep.

    Raises:
        SpaceError, UsageError: see `prepare_space`; or the directory cannot be made in `root`.
        StorageError: the cluster is unavailable or too small, a file cannot be written, or the
            store fails before the first trial or at the end.
    """
    check_root(root)
    start = time.monotonic()
    # The cluster comes first: if there is none, no directory is left behind.
    with ExitStack() as stack:
        with _prepared_on_cluster(space, preparing, address) as (prepared, capacity):
            view = stack.enter_context(viewing(prepared))
            run, opened = begin(root, prepared)
            with closing(opened) as journal:
                stack.enter_context(mirrored(run.path))
                ended = SweepExecution(
                    run, prepared, journal, capacity=capacity, view=view
                ).execute()
        yield _ended(run, prepared, ended, start)


def begin(root: Path | Place, prepared: Prepared) -> tuple[Run, SweepJournal]:
    """Create the directory of a new sweep, complete for `resume`, and open its journal.

    The journal is locked by this process. The manifest is written last: a directory without one is
    no sweep. A first Ctrl-C waits until it is there.

    Args:
        root: folder or store in which the directory is made.
        prepared: the sweep.

    Raises:
        StorageError: a file cannot be written.
    """
    with ExitStack() as opened:
        with first_signal_afterwards():
            run = create_run(root, prepared.space.name, now=datetime.now(tz=UTC))
            text = yaml.safe_dump(prepared.space.to_json(), sort_keys=False, allow_unicode=True)
            write_text(run.space, text)
            journal = opened.enter_context(closing(SweepJournal(run.journal)))
            write_manifest(run, provenance(prepared))
        opened.pop_all()  # from here on the caller closes the journal
    return run, journal


@contextmanager
def resume(
    run: Run, *, address: str, view: View, accept_changes: bool = False
) -> Iterator[EndedSweep]:
    """Do the missing work of a sweep: interrupted trials, trials not yet tried, finalists.

    A finished sweep is left as it is. Files that the block writes into the directory are copied to
    the store of the sweep, if it has one.

    Args:
        run: the sweep.
        address: address of the cluster, or `local`.
        view: shows the progress of the sweep.
        accept_changes: continue although versions of packages differ from those of the last run.

    Yields:
        The ended sweep.

    Raises:
        UsageError: another process runs the sweep; the space, images, weights or package versions
            differ from those of the existing results; or another minor version of this program ran
            it last, which `accept_changes` does not override.
        StorageError: the cluster is unavailable or too small, a file cannot be written, or the
            store fails before the first trial or at the end.
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
        prepared, ended = _continue(
            run, manifest, address=address, view=view, accept_changes=accept_changes
        )
        yield _ended(run, prepared, ended, start)


def _continue(
    run: Run, manifest: dict[str, Any], *, address: str, view: View, accept_changes: bool
) -> tuple[Prepared, Ended]:
    with closing(SweepJournal(run.journal)) as journal:
        check_versions(run, manifest, accept=accept_changes)
        space = read_written_space(run.space)
        with _prepared_on_cluster(
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
def _prepared_on_cluster(
    space: SearchSpace, preparing: Callable[[], Prepared], address: str
) -> Iterator[tuple[Prepared, Capacity]]:
    """Yield the prepared sweep and the capacity of its cluster.

    The cluster starts in the main thread, because its processes die with the thread that started
    them, and as soon as Ray alone is imported. `preparing`, which imports torch, runs in a thread
    meanwhile, and Tune is imported last: threads that import at once take turns on one processor,
    while the processes of the cluster need only another. User code is imported in the main thread
    and before the cluster starts, because its modules are sent to the nodes.
    """
    if space.custom:
        prepared = preparing()
        with _cluster_with_capacity(space, address) as capacity:
            yield prepared, capacity
        return
    with ExitStack() as stack:
        with interrupted_at_safe_places():
            _import(_CLUSTER)
            reading = BackgroundCall(preparing)
            try:
                capacity = stack.enter_context(_cluster_with_capacity(space, address))
            except SweepError:
                reading.result()  # a data error takes precedence over a cluster error
                raise
            _import(_TUNE)
        yield reading.result(), capacity


def _import(module: str) -> None:
    with collecting_no_garbage():
        importlib.import_module(module)


@contextmanager
def _cluster_with_capacity(space: SearchSpace, address: str) -> Iterator[Capacity]:
    """Start or join a cluster, check its nodes, and yield its capacity."""
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.capacity import capacity
    from orchestrator.running.ray_tune.cluster import cluster
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
    """The modules of user code that worker processes import."""
    found = (module for backbone in space.custom.values() for module in shipped_modules(backbone))
    return list(dict.fromkeys(found))
