"""One axis as the file gives it -> `Axis`; problems are added to those of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrator.space.axes import (
    Axis,
    Case,
    Choice,
    Condition,
    Domain,
    Fixed,
    Range,
    last_value,
    num_steps,
)
from orchestrator.space.axis_values import AXIS_SETTINGS, axis_value_problem, canonical_axis_value
from orchestrator.space.parse_conditions import read_conditions
from orchestrator.space.problems import Problems, unknown
from trainable.errors import SpecError
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.refusals import KeyPath, refusal, shown
from trainable.spec.setting import Setting, Value, finite_number
from trainable.spec.settings import block_range


class Registry(Protocol):
    """The known backbones, as far as the reader needs them."""

    def known_problem(self, backbone: str, /) -> str | None:
        """Return the problem with a backbone's name as one line, or None."""

    def modality_of_name(self, backbone: str, /) -> str:
        """Return the kind of example that a backbone takes, such as `image`."""

    def task_of_name(self, backbone: str, /) -> str:
        """Return what a backbone is for as it was pretrained, such as `classification`."""

    def expand(self, pattern: str, /) -> Sequence[str]:
        """Return the backbones that a glob (`*`, `?`, `[`) matches; itself if none match."""


_RANGE_KEYS = ("low", "high", "log", "step")
_CASE_KEYS = ("value", "values", *_RANGE_KEYS, "when")
_CUSTOM_KEYS = frozenset({"name", "module", "args", "weights"})
_SMALLEST_STEP = 1e-9


class AxisReader:
    """Reads the axes of one file.

    Attributes:
        custom: backbones built by the user's code that were found so far, by name.
    """

    def __init__(self, problems: Problems, *, registry: Registry | None = None) -> None:
        self.custom: dict[str, CustomBackbone] = {}
        self._problems = problems
        self._registry = registry

    def read(self, name: str, given: object) -> Axis | None:
        """Read the axis `name`; None if it has problems."""
        path: KeyPath = ("search", name)
        if isinstance(given, Mapping) and "cases" in given:
            cases = self._cases(name, path, given)
        else:
            case = self._case(name, path, given)
            cases = None if case is None else (case,)
        if cases is None:
            return None
        axis = Axis(name, cases)
        if name == "backbone" and not axis.always_applies:
            self._problems.add(path, "every trial needs one; end with a case that has no `when`")
            return None
        return axis

    def _cases(
        self, name: str, path: KeyPath, given: Mapping[str, object]
    ) -> tuple[Case, ...] | None:
        found = len(self._problems)
        for key in given:
            if key != "cases":
                self._problems.add((*path, key), "belongs inside one of the cases")
        items = given["cases"]
        path = (*path, "cases")
        if not isinstance(items, list) or not items:
            self._problems.add(path, refusal(items, "a list of at least one case"))
            return None
        cases = []
        for index, item in enumerate(items):
            case_path = (*path, index)
            if isinstance(item, Mapping) and "cases" in item:
                self._problems.add(case_path, "a case cannot hold cases of its own")
                continue
            case = self._case(name, case_path, item)
            if case is None:
                continue
            if not case.when and index < len(items) - 1:
                self._problems.add(
                    case_path, "has no `when` and so hides the cases after it; put it last"
                )
            cases.append(case)
        return tuple(cases) if len(self._problems) == found else None

    def _case(self, name: str, path: KeyPath, given: object) -> Case | None:
        if not isinstance(given, Mapping) or _is_custom(name, given):
            domain = self._listed_or_fixed(name, path, given)
            return None if domain is None else Case(domain)
        found = len(self._problems)
        for key in given:
            if key not in _CASE_KEYS:
                self._problems.add((*path, key), unknown("key", key, (*_CASE_KEYS, "cases"), {}))
        when: tuple[Condition, ...] = ()
        if "when" in given:
            when = read_conditions(name, (*path, "when"), given["when"], self._problems)
        domain = self._domain(name, path, given)
        return Case(domain, when) if domain and len(self._problems) == found else None

    def _domain(self, name: str, path: KeyPath, given: Mapping[str, object]) -> Domain | None:
        kinds = [kind for kind in ("value", "values") if kind in given]
        if any(key in given for key in _RANGE_KEYS):
            kinds.append("low with high")
        if len(kinds) != 1:
            what = f"got {' and '.join(kinds)}" if kinds else "says no value"
            self._problems.add(path, f"{what}; give one of: value, values, low with high")
            return None
        if "value" in given:
            return self._fixed(name, (*path, "value"), given["value"])
        if "values" in given:
            if not isinstance(given["values"], list):
                self._problems.add((*path, "values"), refusal(given["values"], "a list"))
                return None
            return self._choice(name, (*path, "values"), given["values"])
        return self._range(name, path, given)

    def _listed_or_fixed(self, name: str, path: KeyPath, given: object) -> Domain | None:
        is_pair = name == "train_blocks" and block_range(given) is not None
        if (isinstance(given, list) and not is_pair) or self._is_pattern(name, given):
            return self._choice(name, path, given if isinstance(given, list) else [given])
        return self._fixed(name, path, given)

    def _is_pattern(self, name: str, given: object) -> bool:
        return name == "backbone" and isinstance(given, str) and bool(set(given) & set("*?["))

    def _expanded(self, name: str, given: list[object]) -> list[object]:
        """Return the list with each glob of backbones replaced by its matches."""
        if self._registry is None:
            return given
        items: list[object] = []
        for item in given:
            if self._is_pattern(name, item):
                items += [match for match in self._registry.expand(str(item)) if match not in items]
            else:
                items.append(item)
        return items

    def _fixed(self, name: str, path: KeyPath, given: object) -> Fixed | None:
        value = self._value(name, path, given)
        return None if value is None else Fixed(value)

    def _choice(self, name: str, path: KeyPath, given: list[object]) -> Domain | None:
        if not given:
            self._problems.add(path, "got an empty list; allowed: at least one value")
            return None
        found = len(self._problems)
        values: list[Value] = []
        for item in self._expanded(name, given):
            value = self._value(name, path, item)
            if value is None:
                continue
            if value in values:
                self._problems.add(path, f"got {shown(item)} twice; allowed: distinct values")
            else:
                values.append(value)
        if len(self._problems) > found:
            return None
        return Fixed(values[0]) if len(values) == 1 else Choice(tuple(values))

    def _value(self, name: str, path: KeyPath, given: object) -> Value | None:
        if isinstance(given, Mapping) and _is_custom(name, given):
            return self._custom(path, given)
        problem = axis_value_problem(name, given)
        if problem is None and name == "backbone" and self._registry is not None:
            problem = self._registry.known_problem(str(given))
        if problem is not None:
            self._problems.add(path, problem)
            return None
        assert isinstance(given, int | float | str | list)
        return canonical_axis_value(name, given)

    def _custom(self, path: KeyPath, given: Mapping[str, object]) -> str | None:
        """Register a backbone that the user's code builds, and return its name."""
        try:
            backbone = CustomBackbone.parse(given)
        except SpecError as error:
            self._problems.add(path, str(error))
            return None
        if self._registry is not None and self._registry.known_problem(backbone.name) is None:
            self._problems.add(
                path, f"name: got {shown(backbone.name)}, a known backbone; choose another name"
            )
            return None
        if self.custom.setdefault(backbone.name, backbone) != backbone:
            self._problems.add(
                path, f"name: got {shown(backbone.name)} for two backbones; allowed: distinct names"
            )
            return None
        return backbone.name

    def _range(self, name: str, path: KeyPath, given: Mapping[str, object]) -> Range | None:
        setting = AXIS_SETTINGS.get(name)
        if setting is None or setting.low is None:
            allowed = "names" if setting is None else setting.allowed
            self._problems.add(path, f"takes no range; allowed: {allowed}")
            return None
        found = len(self._problems)
        log = given.get("log", False)
        if not isinstance(log, bool):
            self._problems.add((*path, "log"), refusal(log, "true or false"))
            log = False
        has_step = given.get("step") is not None
        if log and has_step:
            self._problems.add(path, "got both step and log; allowed: one of the two")
        low = self._end("low", setting, path, given, log=log)
        high = self._end("high", setting, path, given, log=log)
        if low is None or high is None:
            return None
        if low >= high:
            self._problems.add(path, f"got low {low!r} and high {high!r}; low must be below high")
        step = None
        if has_step:
            step = self._step(setting, (*path, "step"), given["step"], low=low, high=high)
        if len(self._problems) > found:
            return None
        if step is not None:
            high = last_value(low, high, step)
            high = int(high) if setting.integer else high
        return Range(low, high, step=step, log=log, integer=setting.integer)

    def _end(
        self, end: str, setting: Setting, path: KeyPath, given: Mapping[str, object], *, log: bool
    ) -> float | None:
        if end not in given:
            self._problems.add(path, f"a range needs both low and high; {end} is missing")
            return None
        value = given[end]
        number = finite_number(value)
        if log and number is not None and number <= 0:
            self._problems.add((*path, end), f"got {shown(value)}; a log range needs {end} > 0")
            return None
        if number is None or not setting.accepts(value):
            numbers = Setting(
                help=setting.help,
                low=setting.low,
                high=setting.high,
                low_excluded=setting.low_excluded,
                integer=setting.integer,
            )
            self._problems.add((*path, end), refusal(value, numbers.allowed))
            return None
        return int(number) if setting.integer else float(number) + 0.0

    def _step(
        self, setting: Setting, path: KeyPath, given: object, *, low: float, high: float
    ) -> float | None:
        number = finite_number(given)
        kind = "a whole number" if setting.integer else "a number"
        whole = number is not None and number == int(number)
        if number is None or number <= 0 or (setting.integer and not whole):
            self._problems.add(path, refusal(given, f"{kind} above 0"))
            return None
        if low < high and num_steps(low, high, number) == 0:
            self._problems.add(path, refusal(given, f"at most high - low, which is {high - low:g}"))
            return None
        smallest = _SMALLEST_STEP * max(abs(low), abs(high))
        if number < smallest:
            self._problems.add(path, refusal(given, f"a number from {smallest:g} on this range"))
            return None
        return int(number) if setting.integer else float(number)


def _is_custom(name: str, given: Mapping[str, object]) -> bool:
    """Return whether a mapping describes a backbone built by the user's code."""
    return name == "backbone" and bool(_CUSTOM_KEYS & set(given))
