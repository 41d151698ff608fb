"""Whether the trials that a file asks for can run, found out before any of them starts."""

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
from trainable.spec.trial_spec import LabelBudget, TrialSpec

if TYPE_CHECKING:  # torch is imported when a sweep is prepared, not before its file was checked
    from trainable.backbones import Backbone

_DECISIVE = ("batch_size", "freeze_depth", "frozen_blocks")
"""Axes at whose ends trials fail where any do."""


def extreme_trials(space: SearchSpace, budget: LabelBudget) -> dict[str, list[TrialSpec]]:
    """By backbone, trials among which are those that fail where any of the space do.

    They have the ends of batch sizes, of what is frozen and of image sizes (with the size next to
    the smaller end, where not all are planned for), every block that learns and every mode of
    BatchNorm, all as conditions allow. Of other axes they have one value.
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
    """What keeps trials of one backbone from running, each problem headed by its key.

    Args:
        trials: see `extreme_trials`.
        built: their backbone.
        space: that they are of.
        plan: of the sweep.
        num_classes: of its images.
    """
    from trainable.training.rehearsal import rehearse

    num_train = max(study.labels_used for study in plan.studies)
    problems: dict[str, None] = {}
    hardest: dict[tuple[object, ...], tuple[int, TrialSpec]] = {}
    for spec in trials:
        try:
            place, frozen = _place(spec, built, num_train)
        except SpecError as error:
            problems[f"search.{error} ({spec.backbone}). Ask less of it, in a case of its own"] = (
                None
            )
        except BackboneError as error:  # of a size that is not planned for: others were tried
            problems[
                f"search.image_size: got a range with {spec.image_size} in it; {error}. Give a "
                "list, or a step from one size that it takes to the next"
            ] = None
        else:
            if place not in hardest or frozen < hardest[place][0]:
                hardest[place] = frozen, spec
    for _, spec in hardest.values():
        try:
            rehearse(spec, built, num_train=num_train, num_classes=num_classes)
        except SpecError as error:
            key = str(error).partition(":")[0]
            problems[f"{'search' if key in space.axes else 'training'}.{error}"] = None
        except BackboneError as error:
            problems[f"search.backbone: {error}"] = None
    return list(problems)


def _place(spec: TrialSpec, built: Backbone, num_train: int) -> tuple[tuple[object, ...], int]:
    """What tells trials apart of which the least frozen is rehearsed for all; what is frozen.

    Raises:
        SpecError: the backbone has not so many blocks.
        BackboneError: it does not take images of this size.
    """
    from trainable.cutting.boundaries import boundaries
    from trainable.training.recipe import resolve_batch_size, resolve_batchnorm
    from trainable.training.rehearsal import MOST_IMAGES
    from trainable.training.setup import num_frozen

    size = spec.image_size
    if isinstance(size, str):
        size = built.weights.preprocessing.image_size
    frozen = num_frozen(spec, len(boundaries(built.traced(size))))
    batch_size = min(resolve_batch_size(spec.batch_size, num_train), MOST_IMAGES)
    return (size, batch_size, resolve_batchnorm(spec.batchnorm, num_train)), frozen


def _narrowed(axis: Axis, domain: Domain, named: dict[str, set[Value]]) -> Domain:
    """The values of a domain that trials are tried with; those that conditions name are kept."""
    patterns = named.get(axis.name, set())
    if axis.name == "image_size" and isinstance(domain, Range):
        sizes = planned_sizes(domain)
        second = [int(domain.low + (domain.step or 1))] if is_open(domain) else []
        return Choice(tuple(dict.fromkeys([*sizes, *second])))
    if axis.name in _DECISIVE:
        return Choice(tuple(dict.fromkeys(_ends(domain, patterns))))
    if axis.name in ("backbone", "train_blocks", "batchnorm", "image_size"):
        return domain
    if not patterns:
        return Choice((domain.low if isinstance(domain, Range) else next(domain.each()),))
    return Choice(tuple(value for value, _ in representatives(domain, patterns)))


def _ends(domain: Domain, patterns: set[Value]) -> Iterator[Value]:
    """Smallest and largest number of a domain, its words, and what conditions name of it."""
    if isinstance(domain, Range):
        yield domain.low
        if domain.low < 0 <= domain.high:
            yield 0  # of blocks, -1 freezes all
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
