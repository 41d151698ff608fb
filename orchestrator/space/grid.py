"""Enumeration and count of the combinations of discrete axes, with conditions applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.space.axes import Axis, Domain, Range, matches
from trainable.spec.setting import Value


def combinations(
    axes: Sequence[Axis], chosen: Mapping[str, Value] | None = None
) -> Iterator[dict[str, Value]]:
    """Yield every distinct assignment to the axes that apply; the last axis changes fastest.

    Args:
        axes: discrete axes, each after those that its conditions name.
        chosen: values of axes before these.
    """
    chosen = {} if chosen is None else chosen
    if not axes:
        yield dict(chosen)
        return
    axis, rest = axes[0], axes[1:]
    domain = axis.resolve(chosen)
    if domain is None:
        yield from combinations(rest, chosen)
        return
    for value in domain.each():
        yield from combinations(rest, {**chosen, axis.name: value})


def num_combinations(axes: Sequence[Axis]) -> int | None:
    """Return the number of combinations without enumerating them; None if infinite."""
    if any(domain.num_values() is None for axis in axes for domain in axis.domains):
        return None
    return _count(axes, {}, condition_values(axes))


def condition_values(axes: Sequence[Axis]) -> dict[str, set[Value]]:
    """Return the values and globs that conditions name, by the axis they refer to."""
    patterns: dict[str, set[Value]] = {}
    for axis in axes:
        for case in axis.cases:
            for condition in case.when:
                patterns.setdefault(condition.axis, set()).update(condition.any_of)
    return patterns


def representatives(domain: Domain, patterns: set[Value]) -> list[tuple[Value, int]]:
    """Return representative values of a countable domain, each with its number of values.

    All values of a range that no condition names are equivalent and share one representative.
    """
    if not isinstance(domain, Range):
        return [(value, 1) for value in domain.grid()]
    named = {value for pattern in patterns if (value := domain.find(pattern)) is not None}
    others = (domain.num_values() or 0) - len(named)
    counted = [(value, 1) for value in named]
    if others:
        other = next(
            value
            for value in domain.each()
            if not any(matches(pattern, value) for pattern in patterns)
        )
        counted.append((other, others))
    return counted


def _count(
    axes: Sequence[Axis], chosen: Mapping[str, Value], patterns: Mapping[str, set[Value]]
) -> int:
    """Return the number of assignments; only values of axes in conditions are enumerated."""
    if not axes:
        return 1
    axis, rest = axes[0], axes[1:]
    domain = axis.resolve(chosen)
    if domain is None:
        return _count(rest, chosen, patterns)
    if axis.name not in patterns:
        return (domain.num_values() or 0) * _count(rest, chosen, patterns)
    return sum(
        weight * _count(rest, {**chosen, axis.name: value}, patterns)
        for value, weight in representatives(domain, patterns[axis.name])
    )
