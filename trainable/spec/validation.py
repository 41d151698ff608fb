"""Source of the validation images, in search-space files and trial specifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainable.errors import SpecError
from trainable.spec.refusals import dotted, refusal, unknown_key
from trainable.spec.setting import Setting

VALIDATION_SETTINGS: Mapping[str, Setting] = {
    "folds": Setting(default=3, low=2, integer=True, help="parts of a cross-validation"),
    "holdout": Setting(
        low=0,
        low_excluded=True,
        high=1,
        high_excluded=True,
        help="share of each class held out once, instead of folds",
    ),
    "split": Setting(words=("val",), help="the data's own validation split, instead of folds"),
    "outside_budget": Setting(
        flag=True,
        help="true beside split: its labels are not paid for by the budget, and are recorded",
    ),
}
"""The keys of `validation:` in a search-space file and in the specification of a trial."""

_WAYS = ("folds", "holdout", "split")


@dataclass(frozen=True)
class Validation:
    """Source of the validation images: folds or a holdout inside the budget, or a split outside it.

    Attributes:
        folds: parts of a cross-validation, at least 2; or None.
        holdout: share of each class held out once, above 0 and below 1; or None.
        outside: whether the data's own validation split is used, whose labels do not count
            toward the budget.

    Raises:
        SpecError: not exactly one of the three is given, or its value is not allowed.
    """

    folds: int | None = 3
    holdout: float | None = None
    outside: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("folds", "holdout")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) + self.outside != 1:
            raise SpecError(f"validation: give one of {', '.join(_WAYS)}")
        problems = [
            f"validation.{name}: {problem}"
            for name, value in given.items()
            if (problem := VALIDATION_SETTINGS[name].problem(value)) is not None
        ]
        if problems:
            raise SpecError("\n".join(problems))
        for name, value in given.items():
            object.__setattr__(self, name, VALIDATION_SETTINGS[name].canonical(value))

    @classmethod
    def parse(cls, given: object) -> Validation:
        """Parse `{folds: 3}`, `{holdout: 0.25}` or `{split: val, outside_budget: true}`.

        A key without a value counts as missing; with no key at all it is the default.

        Raises:
            SpecError: with every problem, one per line, each headed by its key.
        """
        if not isinstance(given, Mapping):
            raise SpecError(f"validation: {refusal(given, 'a mapping such as {folds: 3}')}")
        values = {key: value for key, value in given.items() if value is not None}
        problems = [
            f"{dotted(('validation', str(key)))}: {problem}"
            for key, value in values.items()
            if (problem := _problem(key, value)) is not None
        ]
        if not problems:
            problems = _contradictions(values)
        if problems:
            raise SpecError("\n".join(problems))
        if "split" in values:
            return cls(folds=None, outside=True)
        if "folds" in values or "holdout" in values:
            return cls(values.get("folds"), values.get("holdout"))
        return cls()

    def to_json(self) -> dict[str, Any]:
        """Return the form that `parse` reads."""
        if self.outside:
            return {"split": "val", "outside_budget": True}
        name = "folds" if self.folds is not None else "holdout"
        return {name: getattr(self, name)}

    def __str__(self) -> str:
        if self.outside:
            return "val split, outside the budget"
        return f"folds={self.folds}" if self.folds is not None else f"holdout={self.holdout:g}"


def _problem(key: object, value: object) -> str | None:
    if key not in VALIDATION_SETTINGS:
        return unknown_key(key, VALIDATION_SETTINGS)
    return VALIDATION_SETTINGS[str(key)].problem(value)


def _contradictions(values: Mapping[str, object]) -> list[str]:
    """Return messages for values that are allowed alone but not together."""
    ways = [name for name in _WAYS if name in values]
    outside = values.get("outside_budget", False)
    if len(ways) > 1:
        return [f"validation: got {' and '.join(ways)}; allowed: one of them"]
    if ways == ["split"] and not outside:
        return [
            "validation.outside_budget: the labels of a validation split lie outside the label "
            "budget; say so with outside_budget: true, or validate inside it with folds"
        ]
    if ways != ["split"] and outside:
        return [
            "validation.outside_budget: folds and a holdout lie inside the label budget; leave it "
            "out"
        ]
    return []
