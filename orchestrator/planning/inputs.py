"""The backbones of a sweep, and the input sizes and precisions at which each is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.space import Axis, Choice, Domain, Range, SearchSpace, Value
from orchestrator.space.grid import combinations, condition_values, representatives
from trainable.spec.settings import READINGS, SIZES
from trainable.spec.trial_spec import TrialSpec

MOST_SIZES = 8
"""A stepped range with up to this many input sizes is planned in full, a longer one at its ends."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The settings that determine a backbone's features before any training.

    Attributes:
        size: side of images in pixels, or most tokens of a text; None for the size at which the
            weights were trained.
        precision: precision of the forward pass; may be `auto`.
        reading: name and value of each of `READINGS`, in their order; may be `auto`.
    """

    size: int | None
    precision: str
    reading: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, spec: TrialSpec, *, modality: str) -> Inputs:
        """The inputs of a trial; `auto` is not resolved."""
        return cls.among(vars(spec), modality=modality)

    @classmethod
    def among(cls, values: Mapping[str, Any], *, modality: str) -> Inputs:
        """The inputs among the settings of a trial."""
        return cls(
            size=_size(values[SIZES[modality]]),
            precision=str(values["precision"]),
            reading=tuple((name, str(values[name])) for name in READINGS[modality]),
        )


def backbones(space: SearchSpace) -> list[str]:
    """Every backbone of the search space, in the order of the file."""
    domains = space.axes["backbone"].domains
    return list(dict.fromkeys(str(value) for domain in domains for value in domain.each()))


def inputs_of(space: SearchSpace) -> dict[str, list[Inputs]]:
    """The distinct inputs that trials of each backbone can have, given the axes' conditions.

    A range of sizes contributes every value if it has a step and at most `MOST_SIZES` values,
    otherwise its two ends.
    """
    modality = space.modality
    found: dict[str, dict[Inputs, None]] = {backbone: {} for backbone in backbones(space)}
    for chosen in combinations(_deciding_axes(space)):
        values = {**space.training, **chosen}
        if "backbone" in values:
            found[str(values["backbone"])][Inputs.among(values, modality=modality)] = None
    return {backbone: list(inputs) for backbone, inputs in found.items()}


def sizes_are_open(space: SearchSpace) -> bool:
    """Whether trials can have sizes that `inputs_of` does not list."""
    axis = space.axes.get(SIZES[space.modality])
    return axis is not None and any(
        isinstance(domain, Range) and is_open(domain) for domain in axis.domains
    )


def is_open(sizes: Range) -> bool:
    """Whether `planned_sizes` leaves out some values of a range of sizes."""
    count = sizes.num_values()
    return sizes.step is None or count is None or count > MOST_SIZES


def planned_sizes(sizes: Range) -> tuple[Value, ...]:
    """The sizes to plan for: all values of the range, or its two ends if it is open."""
    return (sizes.low, sizes.high) if is_open(sizes) else tuple(sizes.each())


def _deciding_axes(space: SearchSpace) -> tuple[Axis, ...]:
    """The axes that determine inputs, each reduced to the values that conditions distinguish."""
    modality = space.modality
    wanted = {"backbone", SIZES[modality], "precision", *READINGS[modality]} & set(space.axes)
    waiting = list(wanted)
    while waiting:
        parents = set(space.axes[waiting.pop()].parents) - wanted
        wanted |= parents
        waiting += parents
    axes = [axis for name, axis in space.axes.items() if name in wanted]
    named = condition_values(axes)
    return tuple(
        replace(
            axis,
            cases=tuple(
                replace(case, domain=_narrowed(axis.name, case.domain, named.get(axis.name, set())))
                for case in axis.cases
            ),
        )
        for axis in axes
    )


def _narrowed(axis: str, domain: Domain, named: set[Value]) -> Domain:
    """A finite domain: planned sizes for a size, one value per condition for other ranges.

    Args:
        axis: name of the axis.
        domain: domain of the axis; a choice is returned unchanged.
        named: values of the axis that occur in conditions.
    """
    if not isinstance(domain, Range):
        return domain
    if axis in SIZES.values():
        return Choice(planned_sizes(domain))
    return Choice(tuple(value for value, _ in representatives(domain, named)))


def _size(value: Value) -> int | None:
    return None if value == "auto" else int(value)
