"""The use cases: launch a sweep, and take one up again."""

from __future__ import annotations

import importlib
import logging
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
from orchestrator.reading.answer import answer
from orchestrator.reading.loading import load_run
from orchestrator.reading.status import RunState, inspect
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.progress import measure
from orchestrator.recording.projection import load_studies
from orchestrator.recording.savings import Savings, measure_savings
from orchestrator.recording.stores import Place, mirrored
from orchestrator.recording.sweep_directory import (
    Run,
    check_root,
    create_run,
    update_manifest,
    write_manifest,
    write_text,
)
from orchestrator.recording.tables import SCHEMAS
from orchestrator.running.background import BackgroundCall
from orchestrator.running.broker.broker import Seconds
from orchestrator.running.execution import Ended, View, execute
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

if TYPE_CHECKING:  # ray is imported when a sweep runs, not when one is looked at
    from orchestrator.running.ray_tune.capacity import Capacity

_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of running a sweep.

    Attributes:
        run: its directory.
        failures: trials, finals and baselines that failed.
        signal: the signal that ended it early, or None.
        answer: at most five lines for people.
        report_problem: why there is no new report, or None.
        savings: frozen computation that trials shared.
        seconds: time spent in the broker.
        duration_s: wall-clock time of this launch or resume.
    """

    run: Run
    failures: int
    signal: int | None
    answer: list[str]
    report_problem: str | None
    savings: Savings
    seconds: Seconds
    duration_s: float


def launch(
    space: SearchSpace,
    *,
    preparing: Callable[[], Prepared],
    root: Path | Place,
    address: str,
    viewing: Callable[[Prepared], AbstractContextManager[View]],
) -> Outcome:
    """Run a sweep in a new directory under `root`, or one that is copied there.

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
                ended = execute(run, prepared, journal, capacity=capacity, view=view)
        return _outcome(run, prepared, ended, start=start)


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


def resume(run: Run, *, address: str, view: View, accept_changes: bool = False) -> Outcome:
    """Do what is missing of a sweep: trials cut short, trials not yet tried, finalists.

    Nothing is done to a finished sweep, but that damaged tables are made again.

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
    manifest = run.read_manifest()
    finished = inspect(run).state is RunState.FINISHED
    if not finished:
        check_release(run, manifest)
    check_space(run, manifest, load_space(run.space))
    with mirrored(run.path):
        if finished:
            return _finished(run, start=time.monotonic())
        return _go_on(run, manifest, address=address, view=view, accept_changes=accept_changes)


def _go_on(
    run: Run, manifest: dict[str, Any], *, address: str, view: View, accept_changes: bool
) -> Outcome:
    start = time.monotonic()
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
            ended = execute(run, prepared, journal, capacity=capacity, view=view)
    return _outcome(run, prepared, ended, start=start)


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


def _outcome(run: Run, prepared: Prepared, ended: Ended, *, start: float) -> Outcome:
    """What the tables and the journal of a sweep say, now that it is not running; its report."""
    problem = None if ended.signal is not None else _report(run, prepared)
    return _read_outcome(
        run,
        prepared.space,
        ended,
        reported=ended.signal is None and problem is None,
        problem=problem,
        start=start,
    )


def _finished(run: Run, *, start: float) -> Outcome:
    """What a sweep came to that was finished before; what is missing or damaged is made again."""
    loaded = load_run(run.path)
    for name in SCHEMAS:
        loaded.read(name)
    problem = None if run.report.is_file() else _report(run, _prepare_again(run))
    return _read_outcome(
        run,
        load_space(run.space),
        Ended(signal=None, seconds=Seconds()),
        reported=run.report.is_file(),
        problem=problem,
        start=start,
    )


def _prepare_again(run: Run) -> Prepared:
    """What a sweep that has begun was prepared with."""
    return prepare_space(read_written_space(run.space), path=run.space, begun=True)


def _read_outcome(
    run: Run,
    space: SearchSpace,
    ended: Ended,
    *,
    reported: bool,
    problem: str | None,
    start: float,
) -> Outcome:
    studies = load_studies(run.path)
    progress = measure(space, studies)
    return Outcome(
        run=run,
        failures=sum(study.failures for study in progress),
        signal=ended.signal,
        answer=answer(
            load_run(run.path).leaderboard.to_pylist(),
            num_test=user_attributes.num_test(studies.values()),
            run=run.argument,
            report=str(run.report) if reported else None,
        ),
        report_problem=problem,
        savings=measure_savings(studies.values()),
        seconds=ended.seconds,
        duration_s=time.monotonic() - start,
    )


def _report(run: Run, prepared: Prepared) -> str | None:
    """Write the report; what kept it from being written, or None.

    Whatever that is, the sweep is done and its tables are safe.
    """
    from orchestrator.reading.report import write_report

    try:
        write_report(run, run.report, images=prepared.images)
    except Exception as error:
        _log.exception("report: not written")
        return (
            f"{run.report}: not written: {error}. Try again with: sft-sweep report {run.argument}"
        )
    return None
