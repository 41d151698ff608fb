"""Rehearsal of a search space's extreme trials, to find failing settings before the sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.planning.inputs import is_open, planned_sizes
from orchestrator.planning.plan import Plan
from orchestrator.space import Axis, Choice, Domain, Range, SearchSpace, Value
from orchestrator.space.axes import matches
from orchestrator.space.grid import combinations, condition_values, representatives
from trainable.errors import BackboneError, SpecError
from trainable.spec.settings import SIZES
from trainable.spec.trial_spec import LabelBudget, TrialSpec

if TYPE_CHECKING:  # a file is checked without importing torch
    from trainable.backbones import Backbone

_DECISIVE = ("batch_size", "freeze_depth", "frozen_blocks", "dropout")
"""Axes on which a trial at one of the ends fails if any trial fails."""

_EVERY_VALUE = ("backbone", "train_blocks", "batchnorm", "pooling", *SIZES.values())
"""Axes of which each value may be the one that fails."""


def extreme_trials(space: SearchSpace, budget: LabelBudget) -> dict[str, list[TrialSpec]]:
    """The extreme trials by backbone: if any trial of the space fails, one of these fails.

    They combine, as the axes' conditions allow: both ends of batch size, of freeze depth, of frozen
    blocks and of dropout; both ends of image size, and the second smallest size if the range is
    open; every value of `train_blocks`, `batchnorm` and `pooling`. Every other axis has one value.

    Args:
        space: the search space.
        budget: label budget of the trials.
    """
    named = condition_values(tuple(space.axes.values()))
    axes = [
        replace(
            axis,
            cases=tuple(
                replace(case, domain=_narrowed(axis, case.domain, named)) for case in axis.cases
            ),
        )
        for axis in space.axes.values()
    ]
    found: dict[str, list[TrialSpec]] = {}
    for params in combinations(axes):
        spec = space.spec(params, budget)
        found.setdefault(spec.backbone, []).append(spec)
    return found


def problems_of(
    trials: Sequence[TrialSpec],
    built: Backbone,
    *,
    space: SearchSpace,
    plan: Plan,
    num_classes: int,
) -> list[str]:
    """The problems that keep trials of one backbone from running, each headed by its key.

    Of all trials with equal image size, pooling, batch size and BatchNorm mode, only the one that
    freezes the least is rehearsed.

    Args:
        trials: trials of one backbone; see `extreme_trials`.
        built: the backbone.
        space: the search space of the trials.
        plan: plan of the sweep.
        num_classes: number of classes of the images.
    """
    from trainable.training.rehearsal import rehearse

    size = SIZES[space.modality]
    num_train = max(study.labels_used for study in plan.studies)
    problems: dict[str, None] = {}
    hardest: dict[tuple[object, ...], tuple[int, TrialSpec]] = {}
    for spec in trials:
        try:
            place, frozen = _place(spec, built, num_train)
        except SpecError as error:
            problems[
                f"{_section(error, space)}.{error} ({spec.backbone}). Ask less of it, in a case of "
                "its own"
            ] = None
        except BackboneError as error:  # planned sizes were checked before; this one was not
            problems[
                f"search.{size}: got a range with {getattr(spec, size)} in it; {error}. Give a "
                "list, or a step from one size that it takes to the next"
            ] = None
        else:
            if place not in hardest or frozen < hardest[place][0]:
                hardest[place] = frozen, spec
    for _, spec in hardest.values():
        try:
            rehearse(spec, built, num_train=num_train, num_classes=num_classes, task=space.task)
        except SpecError as error:
            problems[f"{_section(error, space)}.{error}"] = None
        except BackboneError as error:
            problems[f"search.backbone: {error}"] = None
    return list(problems)


def _section(error: SpecError, space: SearchSpace) -> str:
    """The section of the file that an error is about; its message begins with the key."""
    return "search" if str(error).partition(":")[0] in space.axes else "training"


def _place(spec: TrialSpec, built: Backbone, num_train: int) -> tuple[tuple[object, ...], int]:
    """The rehearsal group of a trial, and the number of boundaries that it freezes.

    Args:
        spec: the trial.
        built: its backbone.
        num_train: largest number of training images.

    Raises:
        SpecError: the backbone has fewer blocks than the trial freezes or trains, or none of the
            dropout that is asked for.
        BackboneError: the backbone cannot take images of this size.
    """
    from trainable.backbones.cutting.boundaries import boundaries
    from trainable.training.recipe import resolve_batch_size, resolve_batchnorm
    from trainable.training.rehearsal import MOST_IMAGES
    from trainable.training.setup import (
        check_dropout,
        num_frozen,
        reading_backbone,
        resolved_size,
    )

    reading = reading_backbone(spec, built)
    size = resolved_size(spec, reading.weights)
    traced = reading.traced(size)
    check_dropout(spec, traced)
    frozen = num_frozen(spec, len(boundaries(traced)))
    batch_size = min(resolve_batch_size(spec.batch_size, num_train), MOST_IMAGES)
    batchnorm = resolve_batchnorm(spec.batchnorm, num_train)
    return (size, reading.weights.preprocessing.pooling, batch_size, batchnorm), frozen


def _narrowed(axis: Axis, domain: Domain, named: dict[str, set[Value]]) -> Domain:
    """The values of a domain to rehearse, those that occur in conditions included."""
    patterns = named.get(axis.name, set())
    if axis.name in SIZES.values() and isinstance(domain, Range):
        sizes = planned_sizes(domain)
        second = [int(domain.low + (domain.step or 1))] if is_open(domain) else []
        return Choice(tuple(dict.fromkeys([*sizes, *second])))
    if axis.name in _DECISIVE:
        return Choice(tuple(dict.fromkeys(_ends(domain, patterns))))
    if axis.name in _EVERY_VALUE:
        return domain
    if not patterns:
        return Choice((domain.low if isinstance(domain, Range) else next(domain.each()),))
    return Choice(tuple(value for value, _ in representatives(domain, patterns)))


def _ends(domain: Domain, patterns: set[Value]) -> Iterator[Value]:
    """Yield the ends of a domain's numbers, its words, and the values that conditions name."""
    if isinstance(domain, Range):
        yield domain.low
        if domain.low < 0 <= domain.high:
            yield 0  # the least frozen: -1 freezes all blocks
        yield domain.high
        yield from (value for pattern in patterns if (value := domain.find(pattern)) is not None)
        return
    numbers = [value for value in domain.each() if not isinstance(value, str)]
    if numbers:
        yield min(numbers, key=lambda value: (value < 0, value))
        yield max(numbers)
    yield from (
        value
        for value in domain.each()
        if isinstance(value, str) or any(matches(pattern, value) for pattern in patterns)
    )
