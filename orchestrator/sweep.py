"""The use cases: launch a sweep, and take one up again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import yaml

from orchestrator.answer import answer
from orchestrator.errors import UsageError
from orchestrator.inspection import RunState, inspect
from orchestrator.journal import SweepJournal
from orchestrator.plan import Plan
from orchestrator.preparation import Prepared, prepare
from orchestrator.progress import StudyProgress, measure
from orchestrator.projection import Projection, load_studies, rebuild
from orchestrator.runs import Run, check_root, create_run, write_manifest, write_text
from orchestrator.sharing import Savings, measure_savings
from orchestrator.signals import stopping_on_signals
from orchestrator.studies import Seconds, StudyBroker
from orchestrator.tables import read_table
from orchestrator.work import Activity
from trainable.backbones import shipped_module

if TYPE_CHECKING:  # ray is imported when a sweep runs, not when one is looked at
    from orchestrator.tuning.cluster import Slots

TABLES_EVERY_S = 5.0
"""Shortest time between two writings of the tables while a sweep runs, in seconds."""


class View(Protocol):
    """Shows how far a sweep is."""

    def __call__(self, plan: Plan, progress: Sequence[StudyProgress], activity: Activity) -> None:
        """Show the present state; called every half second."""

    def stopping(self) -> None:
        """Say that the end was asked for; called amid anything, by a signal handler."""


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


def launch(prepared: Prepared, *, root: Path, address: str, view: View) -> Outcome:
    """Run a sweep in a new directory under `root`.

    Raises:
        UsageError: the directory cannot be made there.
        StorageError: no cluster, or no room.
    """
    check_root(root)
    from orchestrator.tuning.cluster import cluster, find_slots

    with cluster(
        address, modules=_shipped(prepared)
    ):  # before the directory is made: without a cluster there is no sweep
        slots = find_slots(prepared.space.resources)
        run = create_run(root, prepared.space.name, now=datetime.now(tz=UTC))
        text = yaml.safe_dump(prepared.space.to_json(), sort_keys=False, allow_unicode=True)
        write_text(run.space, text)
        write_manifest(
            run,
            space_hash=prepared.space.fingerprint(),
            dataset_fingerprint=prepared.images.fingerprint(),
        )
        return _run(run, prepared, slots=slots, view=view)


def resume(run: Run, *, address: str, view: View) -> Outcome:
    """Do what is missing of a sweep: trials cut short, trials not yet tried, finalists.

    Raises:
        UsageError: the images or the space are no longer those that the sweep began with.
        StorageError: no cluster, or no room.
    """
    manifest = run.read_manifest()
    prepared = prepare(run.space)
    for what, now in (
        ("space_hash", prepared.space.fingerprint()),
        ("dataset_fingerprint", prepared.images.fingerprint()),
    ):
        if manifest[what] != now:
            raise UsageError(
                f"{run.path}: {what} was {manifest[what][:12]} when the sweep began and is "
                f"{now[:12]} now: finished trials would not compare with new ones. Start a new "
                "sweep with: sft-sweep launch"
            )
    if inspect(run).state is RunState.FINISHED:
        rebuild(run.path, run.sweep_id)
        return _outcome(run, prepared, signal=None, seconds=Seconds(), start=time.monotonic())
    from orchestrator.tuning.cluster import cluster, find_slots

    with cluster(address, modules=_shipped(prepared)):
        slots = find_slots(prepared.space.resources)
        return _run(run, prepared, slots=slots, view=view)


def _shipped(prepared: Prepared) -> list[ModuleType]:
    """The user's own code that the processes of trials need."""
    found = [shipped_module(backbone) for backbone in prepared.space.custom.values()]
    return [module for module in dict.fromkeys(found) if module is not None]


def _run(run: Run, prepared: Prepared, *, slots: Slots, view: View) -> Outcome:
    """Do all the work that a sweep's journal lacks, and write its tables."""
    from orchestrator.tuning.actor import FineTuneActor, share
    from orchestrator.tuning.control import Control
    from orchestrator.tuning.run import run_work

    start = time.monotonic()
    space, plan = prepared.space, prepared.plan
    hours = space.limits.hours
    control = Control()

    def stop() -> None:
        control.request_stop()
        view.stopping()

    with _logging_to(run.log), stopping_on_signals(stop) as caught:
        journal = SweepJournal(run.journal)
        try:
            if journal.mended_bytes:
                _log.warning("%s: dropped a record or an ask that a death cut short", run.journal)
            broker = StudyBroker(
                space,
                plan,
                prepared.images,
                journal,
                slots=slots.count,
                deadline=None if hours is None else start + hours * 3600,
            )
            projection = Projection(run.sweep_id, broker.studies)
            written = start

            def tick() -> None:
                nonlocal written
                view(plan, measure(space, broker.studies), broker.activity)
                if time.monotonic() - written >= TABLES_EVERY_S:
                    projection.write(run.path)
                    written = time.monotonic()

            for note in prepared.notes:
                for line in note.lines():
                    _log.info("dataset: %s", line)
            for one in prepared.kept:
                _log.info("cache: %s", one.text)
            _log.info("started: %d slots, %d studies", slots.count, len(plan.studies))
            try:
                run_work(
                    broker,
                    FineTuneActor,
                    parameters={
                        "shared": share(prepared.images, prepared.weights, cache=space.cache)
                    },
                    slots=slots,
                    control=control,
                    tick=tick,
                )
            finally:
                projection.write(run.path)
            view(plan, measure(space, broker.studies), broker.activity)
        finally:
            journal.close()
        outcome = _outcome(
            run,
            prepared,
            signal=caught[0] if caught else None,
            seconds=broker.seconds,
            start=start,
        )
        _log.info("ended: %d failures, signal %s", outcome.failures, outcome.signal)
    return outcome


def _outcome(
    run: Run, prepared: Prepared, *, signal: int | None, seconds: Seconds, start: float
) -> Outcome:
    """What the tables and the journal of a sweep say, now that it is not running."""
    studies = load_studies(run.path)
    progress = measure(prepared.space, studies)
    problem = None if signal is not None else _report(run, prepared)
    reported = signal is None and problem is None
    return Outcome(
        run=run,
        failures=sum(study.failures for study in progress),
        signal=signal,
        answer=answer(
            read_table(run.path, "leaderboard").to_pylist(),
            num_test=prepared.plan.num_test,
            objective=prepared.space.objective.value,
            run=str(run.path),
            report=str(run.report) if reported else None,
        ),
        report_problem=problem,
        savings=measure_savings(studies.values()),
        seconds=seconds,
        duration_s=time.monotonic() - start,
    )


def _report(run: Run, prepared: Prepared) -> str | None:
    """Write the report; what kept it from being written, or None.

    Whatever that is, the sweep is done and its tables are safe.
    """
    from orchestrator.report import write_report

    try:
        write_report(run, run.report, images=prepared.images)
    except Exception as error:
        _log.exception("report: not written")
        return f"{run.report}: not written: {error}. Try again with: sft-sweep report {run.path}"
    return None


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
