"""`search:` of a file -> its axes, ordered for evaluating conditions, and its label budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from orchestrator.space.axes import Axis, Case, Fixed
from orchestrator.space.axis_values import AXIS_NAMES, FREEZING
from orchestrator.space.parse_axes import AxisReader, Registry
from orchestrator.space.problems import Problems, unknown
from trainable.errors import SpecError
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.refusals import KeyPath, refusal, shown
from trainable.spec.setting import finite_number
from trainable.spec.settings import DEFAULT_FREEZE_DEPTH, DEFAULT_LR
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation

SEARCH_KEYS = (*AXIS_NAMES, "label_budget")
BUDGET_ALLOWED = "whole numbers of labels per class from 2, all, or {total: N}"
MIN_PER_CLASS = 2
_MIN_TOTAL = 4


class Search(NamedTuple):
    """The content of `search:` of a file.

    Attributes:
        axes: axes by name, each after those that its conditions name.
        label_budgets: distinct label budgets.
        custom: backbones built by the user's code, by name.
    """

    axes: dict[str, Axis]
    label_budgets: tuple[LabelBudget, ...]
    custom: dict[str, CustomBackbone]


def read_search(
    given: object,
    problems: Problems,
    *,
    homes: Callable[[], Mapping[str, str]],
    validation: Validation | None,
    registry: Registry | None = None,
) -> Search:
    """Read `search:` of a file.

    Args:
        given: the value of `search:`; None if the file has none.
        problems: problems found are added here; the result is then fit for further checks only.
        homes: returns the dotted path by key, for keys that belong elsewhere in the file; a
            top-level key is its own path.
        validation: how label budgets pay for validation; None if the file is invalid there.
        registry: registry of backbones, to check and expand their names; None takes every name.
    """
    if given is None:
        problems.add(("search",), "missing; it needs backbone and label_budget")
        return Search({}, (), {})
    if not isinstance(given, Mapping):
        problems.add(("search",), refusal(given, "a mapping of axes"))
        return Search({}, (), {})
    reader = AxisReader(problems, registry=registry)
    axes: dict[str, Axis] = {}
    broken: set[str] = set()
    for name, value in given.items():
        if name == "label_budget":
            continue
        if name not in AXIS_NAMES:
            problems.add(("search", name), unknown("axis", name, SEARCH_KEYS, homes()))
            continue
        axis = reader.read(name, value)
        if axis is None:
            broken.add(name)
        else:
            axes[name] = axis
    first, *others = [name for name in FREEZING if name in given] or [""]
    for name in others:
        problems.add(("search", name), f"given with {first}; give one of the two")
    if "backbone" not in given:
        problems.add(("search", "backbone"), "missing; name at least one, such as resnet50")
    _fill_defaults(axes, given)
    for axis in axes.values():
        _check_conditions(
            axis,
            given.get(axis.name),
            axes,
            broken=broken,
            problems=problems,
        )
    return Search(
        _ordered(axes, problems), _read_budgets(given, problems, validation), reader.custom
    )


def _fill_defaults(axes: dict[str, Axis], given: Mapping[str, object]) -> None:
    if not set(FREEZING) & set(given):
        axes["freeze_depth"] = Axis("freeze_depth", (Case(Fixed(DEFAULT_FREEZE_DEPTH)),))
    if "lr" not in given:
        axes["lr"] = Axis("lr", (Case(Fixed(DEFAULT_LR)),))


def _check_conditions(
    axis: Axis,
    given: object,
    axes: Mapping[str, Axis],
    *,
    broken: set[str],
    problems: Problems,
) -> None:
    """Refuse conditions on unknown axes, and patterns that match no value of their axis."""
    in_cases = isinstance(given, Mapping) and "cases" in given
    for index, case in enumerate(axis.cases):
        path: KeyPath = ("search", axis.name, *(("cases", index) if in_cases else ()), "when")
        for condition in case.when:
            if condition.axis in broken:
                continue
            if condition.axis not in axes:
                problems.add(
                    (*path, condition.axis),
                    f"no axis of this file; its axes: {', '.join(axes)}",
                )
                continue
            domains = axes[condition.axis].domains
            if any(domain.num_values() is None for domain in domains):
                problems.add(
                    (*path, condition.axis),
                    "is a continuous range; a condition needs single values (a list or a step)",
                )
                continue
            for pattern in condition.any_of:
                if not any(domain.can_match(pattern) for domain in domains):
                    problems.add(
                        (*path, condition.axis),
                        f"got {shown(pattern)}; it matches none of the values of "
                        f"search.{condition.axis}",
                    )


def _ordered(axes: Mapping[str, Axis], problems: Problems) -> dict[str, Axis]:
    """Return the axes in file order, except that each comes after those its conditions name."""
    ordered: dict[str, Axis] = {}
    waiting = dict(axes)
    while waiting:
        ready = next(
            (
                axis
                for axis in waiting.values()
                if not any(parent in waiting for parent in axis.parents)
            ),
            None,
        )
        if ready is None:
            cycle = _cycle(waiting)
            problems.add(
                ("search", cycle[0]), f"its condition leads back to itself: {' -> '.join(cycle)}"
            )
            return ordered | waiting
        ordered[ready.name] = waiting.pop(ready.name)
    return ordered


def _cycle(waiting: Mapping[str, Axis]) -> list[str]:
    """Return the names along one cycle, the first repeated at the end."""
    walk = [next(iter(waiting))]
    while True:
        following = next(name for name in waiting[walk[-1]].parents if name in waiting)
        if following in walk:
            return [*walk[walk.index(following) :], following]
        walk.append(following)


def _read_budgets(
    given: Mapping[str, object], problems: Problems, validation: Validation | None
) -> tuple[LabelBudget, ...]:
    path: KeyPath = ("search", "label_budget")
    listed = given.get("label_budget")
    if listed is None:
        problems.add(path, f"missing; allowed: {BUDGET_ALLOWED}")
        return ()
    items = listed if isinstance(listed, list) else [listed]
    if not items:
        problems.add(path, f"got an empty list; allowed: {BUDGET_ALLOWED}")
    budgets: list[LabelBudget] = []
    for item in items:
        try:
            budget = LabelBudget.parse(_whole(item))
        except SpecError:
            problems.add(path, refusal(item, BUDGET_ALLOWED))
            continue
        phrase = None if validation is None or validation.outside else _too_small(budget)
        if phrase is not None:
            problems.add(path, f"got {shown(item)}; {phrase}")
        elif budget in budgets:
            problems.add(path, f"got {shown(item)} twice; allowed: distinct label budgets")
        else:
            budgets.append(budget)
    return tuple(budgets)


def _whole(item: object) -> object:
    """Return the entry with an integral float as an int, so that `5.0` equals `5`."""
    if isinstance(item, Mapping) and set(item) == {"total"}:
        return {"total": _whole_number(item["total"])}
    return _whole_number(item)


def _whole_number(item: object) -> object:
    if isinstance(item, bool) or not isinstance(item, int | float):
        return item
    number = finite_number(item)
    return finite_number(int(number)) if number is not None and number == int(number) else None


def _too_small(budget: LabelBudget) -> str | None:
    """Return why the budget is too small for validation, and what is allowed; or None."""
    if budget.per_class is not None and budget.per_class < MIN_PER_CLASS:
        return "validation lies inside the label budget; allowed: 2 or more labels per class"
    if budget.total is not None and budget.total < _MIN_TOTAL:
        return (
            "validation lies inside the label budget; allowed: 4 or more labels in all, "
            "2 or more for each of at least two classes"
        )
    return None
