"""Axes: the values that a trial can take, and the conditions under which it can take them.

An axis has cases; the first case whose conditions hold gives the domain. A domain is one value
(`Fixed`), a list (`Choice`) or a `Range`.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from trainable.spec.setting import Value


@dataclass(frozen=True)
class Fixed:
    """One value, the same for every trial."""

    value: Value

    def num_values(self) -> int:
        """Return the number of values: 1."""
        return 1

    def each(self) -> Iterator[Value]:
        """Yield the value."""
        yield self.value

    def grid(self) -> tuple[Value, ...]:
        """Return the value as a tuple of one."""
        return (self.value,)

    def contains(self, value: Value) -> bool:
        """Return whether the value equals this one."""
        return same(self.value, value)

    def can_match(self, pattern: Value) -> bool:
        """Return whether the value matches the pattern of a condition."""
        return matches(pattern, self.value)


@dataclass(frozen=True)
class Choice:
    """One of several distinct values, at least two."""

    values: tuple[Value, ...]

    def num_values(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def each(self) -> Iterator[Value]:
        """Yield the values in the order of the file."""
        yield from self.values

    def grid(self) -> tuple[Value, ...]:
        """Return the values in the order of the file."""
        return self.values

    def contains(self, value: Value) -> bool:
        """Return whether the value is one of the choices."""
        return any(same(mine, value) for mine in self.values)

    def can_match(self, pattern: Value) -> bool:
        """Return whether one of the values matches the pattern of a condition."""
        return any(matches(pattern, value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: smallest value; above 0 if `log`.
        high: largest value, above `low`; with a `step` a whole number of steps above it.
        step: difference between neighbouring values; None for a range without steps.
        log: whether values are uniform on a logarithmic scale; never with a step.
        integer: whether values are integers; `low`, `high` and `step` then are, too.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False

    def num_values(self) -> int | None:
        """Return the number of values; None if the range is continuous."""
        step = self._spacing
        return None if step is None else num_steps(self.low, self.high, step) + 1

    def each(self) -> Iterator[Value]:
        """Return an iterator over the values, ascending.

        Raises:
            ValueError: the range is continuous.
        """
        count = self.num_values()
        if count is None:
            raise ValueError(f"no end of values between {self.low} and {self.high}")
        return (self._value(index) for index in range(count))

    def grid(self) -> tuple[Value, ...] | None:
        """Return the values, ascending; None for a continuous range."""
        return None if self._spacing is None else tuple(self.each())

    def contains(self, value: Value) -> bool:
        """Return whether the value lies between the ends, both included."""
        if isinstance(value, str):
            return False
        inside = self.low <= value <= self.high
        return inside or same(value, self.low) or same(value, self.high)

    def find(self, number: Value) -> Value | None:
        """Return the value of the grid that equals the number, or None."""
        step = self._spacing
        if step is None or isinstance(number, str) or not self.contains(number):
            return None
        index = round((_exact(number) - _exact(self.low)) / _exact(step))
        value = self._value(index)
        return value if same(value, number) else None

    def can_match(self, pattern: Value) -> bool:
        """Return whether one of the countable values matches the pattern of a condition."""
        return self.find(pattern) is not None

    @property
    def _spacing(self) -> float | None:
        return 1 if self.integer and self.step is None else self.step

    def _value(self, index: int) -> Value:
        step = self._spacing
        assert step is not None
        exact = _exact(self.low) + index * _exact(step)
        return int(exact) if self.integer else min(float(exact), self.high)


Domain = Fixed | Choice | Range


@dataclass(frozen=True)
class Condition:
    """A condition on another axis: it has to have one of these values.

    Attributes:
        axis: name of the other axis.
        any_of: numbers, compared by value, and texts, matched by `fnmatch`.
    """

    axis: str
    any_of: tuple[Value, ...]

    def holds(self, params: Mapping[str, Value]) -> bool:
        """Return whether the condition holds; False if the other axis does not apply."""
        if self.axis not in params:
            return False
        return any(matches(pattern, params[self.axis]) for pattern in self.any_of)


@dataclass(frozen=True)
class Case:
    """A domain and the conditions under which it applies; all have to hold."""

    domain: Domain
    when: tuple[Condition, ...] = ()

    def applies(self, params: Mapping[str, Value]) -> bool:
        """Return whether every condition holds."""
        return all(condition.holds(params) for condition in self.when)

    def to_json(self) -> object:
        """Return the case as the file writes it; reading it gives an equal case."""
        domain = self.domain
        if isinstance(domain, Range):
            given: dict[str, object] = {"low": domain.low, "high": domain.high}
            if domain.step is not None:
                given["step"] = domain.step
            if domain.log:
                given["log"] = True
        elif isinstance(domain, Choice):
            given = {"values": list(domain.values)}
        else:
            given = {"value": domain.value}
        if self.when:
            given["when"] = {
                condition.axis: (
                    list(condition.any_of) if len(condition.any_of) > 1 else condition.any_of[0]
                )
                for condition in self.when
            }
        elif not isinstance(domain, Range):
            return next(iter(given.values()))
        return given


@dataclass(frozen=True)
class Axis:
    """One axis of a search space.

    Attributes:
        name: its key in `search:`.
        cases: at least one; only the last can be without conditions.
    """

    name: str
    cases: tuple[Case, ...]

    @property
    def always_applies(self) -> bool:
        """Whether some case applies regardless of the other axes."""
        return not self.cases[-1].when

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domain of every case."""
        return tuple(case.domain for case in self.cases)

    @property
    def parents(self) -> tuple[str, ...]:
        """The distinct axes that its conditions name."""
        return tuple(dict.fromkeys(c.axis for case in self.cases for c in case.when))

    def resolve(self, params: Mapping[str, Value]) -> Domain | None:
        """Return the domain that applies given the values of earlier axes, or None."""
        return next((case.domain for case in self.cases if case.applies(params)), None)

    def to_json(self) -> object:
        """Return the axis as the file writes it; reading it gives an equal axis."""
        if len(self.cases) == 1:
            return self.cases[0].to_json()
        return {"cases": [case.to_json() for case in self.cases]}


def same(one: Value, other: Value) -> bool:
    """Return whether two values are equal; numbers up to rounding."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)


def matches(pattern: Value, value: Value) -> bool:
    """Return whether the value matches the pattern: text as a glob, numbers by value."""
    if isinstance(pattern, str):
        return isinstance(value, str) and fnmatch.fnmatchcase(value, pattern)
    return same(pattern, value)


def num_steps(low: float, high: float, step: float) -> int:
    """Return the number of whole steps between the ends, computed on decimal spellings."""
    resolution = Fraction(4 * math.ulp(max(abs(low), abs(high))))
    return math.floor((_exact(high) - _exact(low) + resolution) / _exact(step))


def last_value(low: float, high: float, step: float) -> float:
    """Return the largest number up to `high` that is a whole number of steps above `low`."""
    exact = _exact(low) + num_steps(low, high, step) * _exact(step)
    return min(float(exact), high)


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))
