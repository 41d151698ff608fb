"""What single values may be: one rule for every key of the file.

Numbers have one canonical type per key (whole ones int, the others float), so that `1` and `1.0`
mean the same wherever they are allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.space.problems import refusal
from trainable.spec.settings import SETTINGS, Setting, block_range

Value = int | float | str
"""What an axis can give a trial."""

_MAX_WHOLE = 2**63


class Text(StrEnum):
    """What a text of the user's own stands for, as messages call it."""

    NAME = "text"
    PATH = "a path"
    PATTERN = "a regular expression"

    def accepts(self, value: str) -> bool:
        """Whether the text can be one."""
        if self is Text.PATTERN:
            try:
                re.compile(value)
            except re.error:
                return False
        return bool(value) and "\0" not in value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one key may be.

    Attributes:
        help: one line for docs/search-space.md.
        low: smallest number allowed; None where words alone are allowed.
        high: largest number allowed; None for no limit.
        low_excluded: whether `low` itself is refused.
        high_excluded: whether `high` itself is refused.
        integer: whether numbers have to be whole.
        words: texts allowed, beside or instead of a number.
        text: what any other text stands for; None where `words` alone are allowed.
        flag: whether true and false are allowed, and nothing else.
    """

    help: str
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    high_excluded: bool = False
    integer: bool = False
    words: tuple[str, ...] = ()
    text: Text | None = None
    flag: bool = False

    @classmethod
    def of(cls, setting: Setting) -> Rule:
        """The rule of a training setting."""
        return cls(
            help=setting.help,
            low=setting.low,
            high=setting.high,
            low_excluded=setting.low_excluded,
            integer=setting.integer,
            words=setting.words,
        )

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        parts = ["true or false"] if self.flag else []
        if self.low is not None:
            kind = "a whole number" if self.integer else "a number"
            low = f"above {self.low:g}" if self.low_excluded else f"from {self.low:g}"
            high = ""
            if self.high is not None:
                high = f" and below {self.high:g}" if self.high_excluded else f" to {self.high:g}"
            parts.append(f"{kind} {low}{high}")
        if self.words:
            parts.append(("one of " if len(self.words) > 1 else "") + ", ".join(self.words))
        if self.text is not None:
            parts.append(self.text.value)
        return " or ".join(parts)

    def accepts(self, value: object) -> bool:
        """Whether the value is allowed, type included (a bool is never a number)."""
        if self.flag:
            return isinstance(value, bool)
        if isinstance(value, str):
            return value in self.words or (self.text is not None and self.text.accepts(value))
        number = finite_number(value)
        if number is None or self.low is None:
            return False
        if self.integer and (number != int(number) or abs(number) >= _MAX_WHOLE):
            return False
        if number < self.low or (self.low_excluded and number == self.low):
            return False
        return self.high is None or (
            number < self.high or (number == self.high and not self.high_excluded)
        )

    def canonical(self, value: Value) -> Value:
        """The one spelling of an accepted value."""
        if isinstance(value, str | bool):
            return value
        return int(value) if self.integer else float(value) + 0.0

    def problem(self, value: object) -> str | None:
        """What a problem line says of the value, or None where it is allowed."""
        return None if self.accepts(value) else refusal(value, self.allowed, self.words)


def finite_number(value: object) -> int | float | None:
    """The value where it is a number that can be computed with, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < _MAX_WHOLE else None
    return value if math.isfinite(value) else None


DEFAULT_LR = 1e-3
DEFAULT_FREEZE_DEPTH = 0.0

AXIS_RULES: Mapping[str, Rule] = {
    "freeze_depth": Rule(
        help="share of the backbone's boundaries that stay frozen; 0 trains all, 1 the head alone",
        low=0.0,
        high=1.0,
    ),
    "frozen_blocks": Rule(
        help="boundaries that stay frozen, -1 for all; instead of freeze_depth",
        low=-1,
        integer=True,
    ),
    "lr": Rule(help="peak learning rate", low=0.0, low_excluded=True),
    **{name: Rule.of(setting) for name, setting in SETTINGS.items()},
}
"""The axes of `search:` that take numbers or words from a list."""

FREEZING = ("freeze_depth", "frozen_blocks", "train_blocks")
"""Axes that say how much is frozen; a file has one of them."""

AXIS_NAMES: tuple[str, ...] = ("backbone", "train_blocks", *AXIS_RULES)
"""Every axis that `search:` can hold; `label_budget` lies there too, and is none."""

BACKBONE_ALLOWED = (
    "text NAME[@WEIGHTS], such as resnet50 or timm:vit_tiny_patch16_224@none, "
    "or {name, module, args, weights}"
)
BACKBONE_HELP = "pretrained network, by name and weights, or by the function that builds it"


BLOCKS_ALLOWED = "[first, last] or text FIRST-LAST, whole numbers from 1"
BLOCKS_HELP = (
    "blocks that learn beside the head, what is before and behind them frozen; "
    "instead of freeze_depth"
)


def axis_value_problem(name: str, value: object) -> str | None:
    """What a problem line says of the value of an axis, or None where it is allowed."""
    if name == "train_blocks":
        return refusal(value, BLOCKS_ALLOWED) if block_range(value) is None else None
    if name != "backbone":
        return AXIS_RULES[name].problem(value)
    if isinstance(value, str) and value.isprintable() and value == value.strip():
        network, at, weights = value.partition("@")
        if network and (weights or not at):
            return None
    return refusal(value, BACKBONE_ALLOWED)


def canonical_axis_value(name: str, value: Value | list[int]) -> Value:
    """The one spelling of an allowed value of an axis."""
    if name == "train_blocks":
        return "{}-{}".format(*(block_range(value) or ()))
    assert not isinstance(value, list)
    return value if name == "backbone" else AXIS_RULES[name].canonical(value)
