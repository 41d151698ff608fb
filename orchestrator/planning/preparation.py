"""Preparation of a sweep: read and check its file, images and weights, and make its plan."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.datasets.dataset import Dataset, read_dataset
from orchestrator.datasets.image_reader import Demand
from orchestrator.datasets.listing import Note
from orchestrator.errors import UsageError
from orchestrator.garbage_collection import collecting_no_garbage
from orchestrator.planning.cache_plan import KeptBoundaries, kept_boundaries
from orchestrator.planning.inputs import backbones, inputs_of
from orchestrator.planning.objective import decide_objective
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.rehearsals import extreme_trials, problems_of
from orchestrator.space import (
    NO_FILE,
    Overrides,
    SearchSpace,
    load_space,
    read_mapping,
    relative_backbone,
)
from orchestrator.space.problems import space_error
from trainable import backbones as registry
from trainable.backbones import Backbone, Weights, load_weights
from trainable.backbones.backbone import Form
from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.tokens import TokenTable
from trainable.errors import BackboneError, SpecError
from trainable.spec.augmentation import Augmentation

if TYPE_CHECKING:  # a file is checked without importing torch
    from trainable.backbones.cutting.boundaries import Boundary


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep that is ready to start: everything is read and checked, nothing is created.

    Attributes:
        space: the search space, its paths absolute and its objective decided.
        images: images of the pool and the test split; those that no trial can use are not read.
        notes: notes for the user, mostly about the images.
        plan: the plan of the sweep.
        weights: weights by backbone.
        graphs: serialized graphs by backbone, for the worker processes; see `Backbone`.
        tokens: tokens of texts by backbone; see `Backbone`.
        kept: the boundaries that this machine's feature cache stores.
    """

    space: SearchSpace
    images: LabelledExamples
    notes: tuple[Note, ...]
    plan: Plan
    weights: dict[str, Weights] = field(repr=False)
    graphs: dict[str, Mapping[Form, bytes]] = field(repr=False)
    tokens: dict[str, Mapping[TextPreprocessing, TokenTable]] = field(repr=False)
    kept: list[KeptBoundaries] = field(repr=False)


def read_space(given: Path | Mapping[str, object], overrides: Overrides = ()) -> SearchSpace:
    """The search space of a file or mapping, with absolute paths; no images or weights are read.

    Args:
        given: path of a search-space file, or a mapping with the keys of such a file.
        overrides: overrides of its keys; see `load_space`.

    Raises:
        SpaceError: the search space is invalid; the message lists every problem.
        UsageError: a transform cannot be constructed.
    """
    if isinstance(given, Path):
        return read_written_space(given, overrides).absolute()
    space = read_mapping(given, overrides, registry=registry)
    return _with_known_ops(space, where=NO_FILE).absolute()


def read_written_space(path: Path, overrides: Overrides = ()) -> SearchSpace:
    """The search space of a file, with paths as written there and as a sweep's journal has them.

    Args:
        path: path of the file.
        overrides: overrides of its keys; see `load_space`.

    Raises:
        SpaceError: the file is invalid; the message lists every problem.
        UsageError: a transform cannot be constructed.
    """
    return _with_known_ops(load_space(path, overrides, registry=registry), where=str(path))


def _with_known_ops(space: SearchSpace, *, where: str) -> SearchSpace:
    """The search space, after a check that its transforms can be constructed.

    Raises:
        UsageError: a transform cannot be constructed; the message names all such transforms.
    """
    if space.augment is not None:
        from trainable.modalities.image.views import check_ops

        try:
            check_ops(space.augment)
        except SpecError as error:
            raise UsageError(f"{where}: {error}") from error
    return space


def prepare_space(space: SearchSpace, *, path: Path, begun: bool = False) -> Prepared:
    """Read and check the images and weights of a search space.

    Args:
        space: the search space.
        path: path of its file, or `NO_FILE`; for messages.
        begun: whether a sweep over it has begun, which then goes on without a rehearsal of trials.

    Raises:
        SpaceError: the images are invalid, or trials cannot run with some settings; the message
            lists every problem.
        UsageError: a backbone's weights are missing or damaged, or it cannot be cut.
    """
    dataset = _read_images(space, path)
    images, notes = dataset.images, dataset.notes
    _check_kind(space, images, path=path)
    space, decision = decide_objective(space, images)
    if decision is not None:
        notes += (Note(decision),)
    plan = make_plan(space, images, where=str(path))
    with collecting_no_garbage():  # all that follows imports it
        importlib.import_module("torch")
    weights: dict[str, Weights] = {}
    graphs: dict[str, Mapping[Form, bytes]] = {}
    tokens: dict[str, Mapping[TextPreprocessing, TokenTable]] = {}
    cuts: dict[tuple[str, int], list[Boundary]] = {}
    trials = {} if begun else extreme_trials(space, plan.studies[-1].budget)
    problems: list[str] = []
    try:
        for name in backbones(space):
            weights[name] = load_weights(space.custom.get(name, name), task=space.task)
            built = Backbone(weights[name])
            found, told = _cuts(space, name, built, images)
            cuts |= {(name, size): places for size, places in found.items()}
            notes += told
            graphs[name], tokens[name] = built.graphs, built.tokens
            problems += problems_of(
                trials.get(name, []), built, space=space, plan=plan, num_classes=images.num_classes
            )
    except BackboneError as error:
        raise UsageError(f"{path}: search.backbone: {error}") from error
    notes += tuple(
        Note(f"{relative_backbone(name)}: {note}")
        for name in weights
        for note in weights[name].notes
    )
    if space.augment is not None and not begun:
        problems += _problems_of_ops(space.augment, smallest=min(size for _, size in cuts))
    if problems:
        raise space_error(str(path), *problems)
    kept, problem = kept_boundaries(space, images, cuts, plan.studies)
    if problem is not None:
        notes += (Note(f"features are not kept: {problem}"),)
    return Prepared(
        space=space,
        images=images,
        notes=notes,
        plan=plan,
        weights=weights,
        graphs=graphs,
        tokens=tokens,
        kept=kept,
    )


def _problems_of_ops(augmentation: Augmentation, *, smallest: int) -> list[str]:
    """The errors of the transforms on images of the smallest size, in pixels."""
    from trainable.modalities.image.views import try_ops

    try:
        try_ops(augmentation, image_size=smallest)
    except SpecError as error:
        return str(error).splitlines()
    return []


def read_data(
    path: Path, *, overrides: Sequence[str] = (), demand: Demand | None = None
) -> Dataset:
    """The images of a search-space file, read and checked as for its sweep.

    Args:
        path: path of the file.
        overrides: `KEY=VALUE` overrides of its keys; see `load_space`.
        demand: the label draws to read images for; None for those of the sweep.

    Raises:
        SpaceError: the file or its images are invalid; the message lists every problem.
        UsageError: a transform cannot be constructed.
    """
    return _read_images(read_space(path, overrides), path, demand)


def _read_images(space: SearchSpace, path: Path, demand: Demand | None = None) -> Dataset:
    if demand is None:
        demand = Demand(
            budgets=space.label_budgets, repeats=space.finalists.repeats, seed=space.seed
        )
    return read_dataset(
        space.dataset, demand=demand, where=str(path), keep_val=space.validation.outside
    )


def _cuts(
    space: SearchSpace, backbone: str, built: Backbone, examples: LabelledExamples
) -> tuple[dict[int, list[Boundary]], tuple[Note, ...]]:
    """The backbone's boundaries by every planned size of its inputs, and notes about the examples.

    Raises:
        BackboneError: the backbone cannot be traced or cut at one of the sizes.
    """
    from trainable.backbones.cutting.boundaries import boundaries
    from trainable.modalities import modality_of

    modality = modality_of(examples, built.weights)
    found: dict[int, list[Boundary]] = {}
    notes: dict[str, None] = {}
    for inputs in inputs_of(space)[backbone]:
        reading = modality.reading(built, dict(inputs.reading))
        size = modality.size(reading.weights, inputs.size)
        try:
            told = modality.prepare(examples, reading, size)
            found.setdefault(size, boundaries(reading.traced(size)))
        except BackboneError as error:
            raise BackboneError(f"{backbone}: {error}") from error
        notes |= dict.fromkeys(f"{relative_backbone(backbone)}: {line}" for line in told)
    return found, tuple(Note(line) for line in notes)


def _check_kind(space: SearchSpace, examples: LabelledExamples, *, path: Path) -> None:
    """Make sure that the backbones take the modality of the examples.

    Raises:
        SpaceError: they take the other modality.
    """
    if examples.modality != space.modality:
        raise space_error(
            str(path),
            f"dataset: got {examples.modality}s; {backbones(space)[0]} takes {space.modality}s. "
            f"Choose backbones for {examples.modality}s: sft-sweep backbones lists them",
        )
