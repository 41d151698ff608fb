"""`when:` of one case as the file gives it -> its conditions."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.space.axes import Condition
from orchestrator.space.axis_values import AXIS_NAMES, AXIS_SETTINGS
from orchestrator.space.problems import Problems
from trainable.spec.refusals import KeyPath, did_you_mean, refusal
from trainable.spec.setting import Value, finite_number


def read_conditions(
    name: str, path: KeyPath, given: object, problems: Problems
) -> tuple[Condition, ...]:
    """Read the conditions of one case.

    Args:
        name: name of the axis that the case belongs to.
        path: key path of the conditions.
        given: value in the file.
        problems: problems found are added here.
    """
    if not isinstance(given, Mapping) or not given:
        allowed = "a mapping from other axes to their values, such as {backbone: vit_*}"
        problems.add(path, refusal(given, allowed))
        return ()
    conditions = []
    for axis, wanted in given.items():
        if axis == name:
            problems.add((*path, axis), "a condition cannot name its own axis")
        elif axis == "label_budget":
            problems.add(
                (*path, axis), "each label budget is a study of its own; name another axis"
            )
        elif axis not in AXIS_NAMES:
            problems.add((*path, axis), f"unknown axis{did_you_mean(axis, AXIS_NAMES)}")
        else:
            patterns = _patterns(axis, (*path, axis), wanted, problems)
            if patterns:
                conditions.append(Condition(axis, patterns))
    return tuple(conditions)


def _patterns(axis: str, path: KeyPath, given: object, problems: Problems) -> tuple[Value, ...]:
    items = given if isinstance(given, list) else [given]
    if not items:
        problems.add(path, "got an empty list; allowed: at least one value or glob")
    patterns: list[Value] = []
    for item in items:
        if isinstance(item, str):
            patterns.append(item)
            continue
        number = finite_number(item)
        if number is None:
            problems.add(path, refusal(item, "a value, a glob, or a list of them"))
        elif axis in AXIS_SETTINGS and AXIS_SETTINGS[axis].accepts(number):
            patterns.append(AXIS_SETTINGS[axis].canonical(number))
        else:
            patterns.append(number)
    return tuple(dict.fromkeys(patterns))
