"""What the networks of a sweep see: which backbones there are, and images of which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.space import Axis, Choice, Domain, Range, SearchSpace, Value
from orchestrator.space.grid import combinations, condition_values, representatives
from trainable.spec.trial_spec import TrialSpec

MOST_SIZES = 8
"""Values of a stepped range of image sizes that are all planned for; of more, the ends are."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The settings that decide what a backbone makes of an image before anything is trained.

    Attributes:
        image_size: side in pixels; None for the size that the weights were trained for.
        precision: of the forward pass, `auto` included.
    """

    image_size: int | None
    precision: str

    @classmethod
    def of(cls, spec: TrialSpec) -> Inputs:
        """Those of a trial, `auto` where its spec has it."""
        return cls(image_size=_size(spec.image_size), precision=spec.precision)


def backbones(space: SearchSpace) -> list[str]:
    """Every backbone that some trial may have, in the order of the file."""
    domains = space.axes["backbone"].domains
    return list(dict.fromkeys(str(value) for domain in domains for value in domain.each()))


def inputs_of(space: SearchSpace) -> dict[str, list[Inputs]]:
    """For every backbone the distinct inputs that its trials can have, conditions followed.

    Of a range of image sizes they have every value where it has a step and at most `MOST_SIZES`
    values, otherwise its ends.
    """
    found: dict[str, dict[Inputs, None]] = {backbone: {} for backbone in backbones(space)}
    for chosen in combinations(_deciding_axes(space)):
        values = {**space.training, **chosen}
        if "backbone" in values:
            size, precision = _size(values["image_size"]), str(values["precision"])
            found[str(values["backbone"])][Inputs(image_size=size, precision=precision)] = None
    return {backbone: list(inputs) for backbone, inputs in found.items()}


def image_sizes(space: SearchSpace, backbone: str) -> list[int | None]:
    """Sides in pixels among `inputs_of` a backbone; None for the weights' own."""
    return list(dict.fromkeys(inputs.image_size for inputs in inputs_of(space)[backbone]))


def sizes_are_open(space: SearchSpace) -> bool:
    """Whether trials can have image sizes that are not among `inputs_of` their backbone."""
    axis = space.axes.get("image_size")
    return axis is not None and any(
        isinstance(domain, Range) and is_open(domain) for domain in axis.domains
    )


def is_open(sizes: Range) -> bool:
    """Whether a range of image sizes has some that are not planned for; see `planned_sizes`."""
    count = sizes.num_values()
    return sizes.step is None or count is None or count > MOST_SIZES


def planned_sizes(sizes: Range) -> tuple[Value, ...]:
    """The image sizes of a range that are planned for: all, or of an open one the ends."""
    return (sizes.low, sizes.high) if is_open(sizes) else tuple(sizes.each())


def _deciding_axes(space: SearchSpace) -> tuple[Axis, ...]:
    """The axes that inputs depend on, each with no more values than tell them apart."""
    wanted = {"backbone", "image_size", "precision"} & set(space.axes)
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
    """Of a range of image sizes those that are planned, of another what conditions tell apart.

    Args:
        axis: whose domain it is.
        domain: countable, or of image sizes.
        named: values of the axis that conditions name.
    """
    if not isinstance(domain, Range):
        return domain
    if axis == "image_size":
        return Choice(planned_sizes(domain))
    return Choice(tuple(value for value, _ in representatives(domain, named)))


def _size(value: Value) -> int | None:
    return None if value == "auto" else int(value)
