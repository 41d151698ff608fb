"""Axes: what a search space lets a trial choose, and under which conditions.

An axis has cases; the first case whose conditions hold gives the domain. A domain is one value
(`Fixed`), a list (`Choice`) or a `Range`.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from trainable.spec.settings import Value


@dataclass(frozen=True)
class Fixed:
    """One value, the same for every trial."""

    value: Value

    def num_values(self) -> int:
        """How many values there are: one."""
        return 1

    def each(self) -> Iterator[Value]:
        """The value."""
        yield self.value

    def grid(self) -> tuple[Value, ...]:
        """The value, alone."""
        return (self.value,)

    def contains(self, value: Value) -> bool:
        """Whether the value is this one."""
        return same(self.value, value)

    def can_match(self, pattern: Value) -> bool:
        """Whether a condition on this pattern holds."""
        return matches(pattern, self.value)


@dataclass(frozen=True)
class Choice:
    """One of several distinct values, at least two."""

    values: tuple[Value, ...]

    def num_values(self) -> int:
        """How many values there are."""
        return len(self.values)

    def each(self) -> Iterator[Value]:
        """Every value, in the order of the file."""
        yield from self.values

    def grid(self) -> tuple[Value, ...]:
        """Every value, in the order of the file."""
        return self.values

    def contains(self, value: Value) -> bool:
        """Whether the value is among them."""
        return any(same(mine, value) for mine in self.values)

    def can_match(self, pattern: Value) -> bool:
        """Whether a condition on this pattern can hold."""
        return any(matches(pattern, value) for value in self.values)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: smallest value; above 0 where `log`.
        high: largest value, above `low`; with a `step` a whole number of steps above it.
        step: distance of neighbouring values; None for every number in between.
        log: whether values are spread evenly on a logarithmic scale; never with a step.
        integer: whether values are whole, as `low`, `high` and `step` then are.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False

    def num_values(self) -> int | None:
        """How many values there are; None where they are not countable."""
        step = self._spacing
        return None if step is None else num_steps(self.low, self.high, step) + 1

    def each(self) -> Iterator[Value]:
        """Every value, ascending, one at a time.

        Raises:
            ValueError: the range is continuous.
        """
        count = self.num_values()
        if count is None:
            raise ValueError(f"no end of values between {self.low} and {self.high}")
        return (self._value(index) for index in range(count))

    def grid(self) -> tuple[Value, ...] | None:
        """Every value, ascending; None for a continuous range."""
        return None if self._spacing is None else tuple(self.each())

    def contains(self, value: Value) -> bool:
        """Whether the value lies between the ends."""
        if isinstance(value, str):
            return False
        inside = self.low <= value <= self.high
        return inside or same(value, self.low) or same(value, self.high)

    def find(self, number: Value) -> Value | None:
        """The value of the grid that equals the number; None where there is none."""
        step = self._spacing
        if step is None or isinstance(number, str) or not self.contains(number):
            return None
        index = round((_exact(number) - _exact(self.low)) / _exact(step))
        value = self._value(index)
        return value if same(value, number) else None

    def can_match(self, pattern: Value) -> bool:
        """Whether a condition on this pattern can hold for one of countable values."""
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
    """Holds where another axis has one of the values; text is matched as a glob.

    Attributes:
        axis: name of the other axis.
        any_of: numbers, compared by value, and texts, matched by `fnmatch`.
    """

    axis: str
    any_of: tuple[Value, ...]

    def holds(self, params: Mapping[str, Value]) -> bool:
        """Whether it holds for these values; never where the other axis does not apply."""
        if self.axis not in params:
            return False
        return any(matches(pattern, params[self.axis]) for pattern in self.any_of)


@dataclass(frozen=True)
class Case:
    """A domain and the conditions, all of them, under which it applies."""

    domain: Domain
    when: tuple[Condition, ...] = ()

    def applies(self, params: Mapping[str, Value]) -> bool:
        """Whether every condition holds."""
        return all(condition.holds(params) for condition in self.when)

    def to_json(self) -> object:
        """The form of the file that reads back to an equal case."""
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
        cases: at least one; one without conditions comes last.
    """

    name: str
    cases: tuple[Case, ...]

    @property
    def always_applies(self) -> bool:
        """Whether some case applies whatever the other axes are."""
        return not self.cases[-1].when

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domain of every case."""
        return tuple(case.domain for case in self.cases)

    @property
    def parents(self) -> tuple[str, ...]:
        """The axes that its conditions name, each once."""
        return tuple(dict.fromkeys(c.axis for case in self.cases for c in case.when))

    def resolve(self, params: Mapping[str, Value]) -> Domain | None:
        """The domain that applies given the values of earlier axes; None where none does."""
        return next((case.domain for case in self.cases if case.applies(params)), None)

    def to_json(self) -> object:
        """The form of the file that reads back to an equal axis."""
        if len(self.cases) == 1:
            return self.cases[0].to_json()
        return {"cases": [case.to_json() for case in self.cases]}


def same(one: Value, other: Value) -> bool:
    """Whether two values are equal; numbers up to the rounding of a stepped range."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15)


def matches(pattern: Value, value: Value) -> bool:
    """Whether the value meets the pattern: a glob for text, a number for numbers."""
    if isinstance(pattern, str):
        return isinstance(value, str) and fnmatch.fnmatchcase(value, pattern)
    return same(pattern, value)


def num_steps(low: float, high: float, step: float) -> int:
    """How many whole steps fit between the ends, counted in decimals as they are written."""
    resolution = Fraction(4 * math.ulp(max(abs(low), abs(high))))
    return math.floor((_exact(high) - _exact(low) + resolution) / _exact(step))


def last_value(low: float, high: float, step: float) -> float:
    """The largest number not above `high` that is a whole number of steps above `low`."""
    exact = _exact(low) + num_steps(low, high, step) * _exact(step)
    return min(float(exact), high)


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))
