"""The use cases: launch a sweep, and take one up again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import yaml

from orchestrator.answer import answer
from orchestrator.errors import UsageError
from orchestrator.inspection import RunState, inspect
from orchestrator.journal import SweepJournal
from orchestrator.plan import Plan, backbones, image_sizes, make_plan
from orchestrator.progress import StudyProgress, measure
from orchestrator.projection import Projection, load_studies, rebuild
from orchestrator.runs import Run, check_root, create_run, write_manifest, write_text
from orchestrator.sharing import KeptBoundaries, Savings, kept_boundaries, measure_savings
from orchestrator.signals import stopping_on_signals
from orchestrator.sources import Dataset, Demand, Note, read_dataset
from orchestrator.space import SearchSpace, load_space
from orchestrator.studies import Seconds, StudyBroker
from orchestrator.tables import read_table
from trainable import backbones as shelf
from trainable.backbones import Backbone, Weights, load_weights, shipped_module
from trainable.boundaries import Boundary, boundaries
from trainable.errors import BackboneError, SpecError
from trainable.images import LabelledImages
from trainable.views import check_ops

if TYPE_CHECKING:  # ray is imported when a sweep runs, not when one is looked at
    from orchestrator.tuning.cluster import Slots

TABLES_EVERY_S = 5.0
"""Shortest time between two writings of the tables while a sweep runs, in seconds."""

View = Callable[[Plan, Sequence[StudyProgress]], None]
"""Shows how far a sweep is; called every half second."""

_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of running a sweep.

    Attributes:
        run: its directory.
        failures: trials, finals and baselines that failed.
        signal: the signal that ended it early, or None.
        answer: at most five lines for people.
        savings: frozen computation that trials shared.
        seconds: time spent in the broker.
        duration_s: wall-clock time of this launch or resume.
    """

    run: Run
    failures: int
    signal: int | None
    answer: list[str]
    savings: Savings
    seconds: Seconds
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep that could start: everything is read and checked, nothing is created.

    Attributes:
        space: what is asked; its paths are absolute.
        images: pool and test split; those that no trial can touch are unread.
        notes: what to know beforehand, of the images above all.
        plan: what will be done.
        weights: by backbone.
        kept: what is kept of frozen computation on this machine.
    """

    space: SearchSpace
    images: LabelledImages
    notes: tuple[Note, ...]
    plan: Plan
    weights: dict[str, Weights] = field(repr=False)
    kept: list[KeptBoundaries] = field(repr=False)


def prepare(path: Path, *, overrides: Sequence[str] = ()) -> Prepared:
    """Read and check a search-space file, its images and its weights.

    Raises:
        SpaceError: with every problem of the file.
        UsageError: a backbone's weights are missing or damaged, or it cannot be cut.
    """
    space = _read_space(path, overrides)
    dataset = _read_images(space, path)
    images = dataset.images
    plan = make_plan(space, images, where=str(path))
    weights: dict[str, Weights] = {}
    cuts: dict[tuple[str, int], list[Boundary]] = {}
    try:
        for name in backbones(space):
            weights[name] = load_weights(space.custom.get(name, name))
            cuts |= {(name, size): found for size, found in _cuts(space, name, weights[name])}
    except BackboneError as error:
        raise UsageError(f"{path}: search.backbone: {error}") from error
    kept, problem = kept_boundaries(space, images, cuts)
    notes = dataset.notes
    if problem is not None:
        notes += (Note(f"features are not kept: {problem}"),)
    return Prepared(space=space, images=images, notes=notes, plan=plan, weights=weights, kept=kept)


def read_data(path: Path, *, overrides: Sequence[str] = ()) -> Dataset:
    """The images of a search-space file as its sweep would read them.

    Raises:
        SpaceError: with every problem of the file or of its images.
    """
    return _read_images(_read_space(path, overrides), path)


def _read_space(path: Path, overrides: Sequence[str]) -> SearchSpace:
    space = load_space(path, overrides, shelf=shelf)
    if space.augment is not None:
        try:
            check_ops(space.augment)
        except SpecError as error:
            raise UsageError(f"{path}: {error}") from error
    return replace(space, dataset=space.dataset.absolute())


def _read_images(space: SearchSpace, path: Path) -> Dataset:
    demand = Demand(budgets=space.label_budgets, repeats=space.finalists.repeats, seed=space.seed)
    return read_dataset(
        space.dataset, demand=demand, where=str(path), keep_val=space.validation.outside
    )


def _cuts(
    space: SearchSpace, backbone: str, weights: Weights
) -> Iterator[tuple[int, list[Boundary]]]:
    """The backbone's boundaries for every image size it may get, from building it once for each.

    Raises:
        BackboneError: with what every trial of it would fail with.
    """
    built = Backbone(weights)
    for given in image_sizes(space, backbone):
        size = given or weights.preprocessing.image_size
        try:
            yield size, boundaries(built.traced(size))
        except BackboneError as error:
            raise BackboneError(f"{backbone}: {error}") from error


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
    with _logging_to(run.log), stopping_on_signals(control.request_stop) as caught:
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
                view(plan, measure(space, broker.studies))
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
            view(plan, measure(space, broker.studies))
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
    return Outcome(
        run=run,
        failures=sum(study.failures for study in progress),
        signal=signal,
        answer=answer(
            read_table(run.path, "leaderboard").to_pylist(),
            num_test=prepared.plan.num_test,
            objective=prepared.space.objective.value,
            run=str(run.path),
        ),
        savings=measure_savings(studies.values()),
        seconds=seconds,
        duration_s=time.monotonic() - start,
    )


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
