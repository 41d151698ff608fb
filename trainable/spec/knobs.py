"""The one table of what can be set about training.

The search-space file, its messages and the README read their checks, defaults and texts from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What one training setting may be.

    Attributes:
        default: the value when the file is silent.
        low: smallest number allowed; None where `words` alone are allowed.
        high: largest number allowed, inclusive; None for no limit.
        low_excluded: whether `low` itself is refused.
        integer: whether numbers have to be whole.
        words: texts allowed, beside or instead of a number.
        help: one line for the README's table.
    """

    default: int | float | str
    help: str
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    integer: bool = False
    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words, for messages and the README."""
        parts = []
        if self.low is not None:
            kind = "a whole number" if self.integer else "a number"
            bound = f"above {self.low:g}" if self.low_excluded else f"from {self.low:g}"
            parts.append(f"{kind} {bound}" + ("" if self.high is None else f" to {self.high:g}"))
        if self.words:
            parts.append(("one of " if len(self.words) > 1 else "") + ", ".join(self.words))
        return " or ".join(parts)

    def accepts(self, value: object) -> bool:
        """Whether `value` is allowed, type included (a bool is never a number)."""
        if isinstance(value, str):
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None:
            return False
        if not abs(value) <= sys.float_info.max or (self.integer and value != int(value)):
            return False
        above = value > self.low if self.low_excluded else value >= self.low
        return above and (self.high is None or value <= self.high)


_BLOCKS = re.compile(r"([1-9][0-9]{0,5})-([1-9][0-9]{0,5})")


def block_range(value: object) -> tuple[int, int] | None:
    """First and last of the blocks that `"3-5"` or `[3, 5]` means, from 1; None for anything else.

    Block k lies between the boundaries k - 1 and k.
    """
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "-".join(str(end) for end in value)
    found = _BLOCKS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


MOST_IMAGES_A_BATCH = 2**16
"""Far more than few labels can fill: a batch is drawn with replacement, and from some multiple of
the training images on it means all of them. Far larger ones take memory for the draw alone."""

MOST_PIXELS_A_SIDE = 2**13
"""An image of this size takes 0.8 GB as numbers, before any layer has seen it."""

KNOBS: Mapping[str, Knob] = {
    "steps": Knob(default=200, low=1, integer=True, help="optimizer updates of a trial"),
    "reports": Knob(
        default=5,
        low=1,
        integer=True,
        help="evaluations during training, evenly spread, after one of the start; at most steps",
    ),
    "batch_size": Knob(
        default="auto",
        low=1,
        high=MOST_IMAGES_A_BATCH,
        integer=True,
        words=("auto",),
        help="images per update, drawn with replacement; auto: min(64, max(16, training images))",
    ),
    "optimizer": Knob(default="adamw", words=("adamw", "sgd"), help="sgd has momentum 0.9"),
    "weight_decay": Knob(
        default=0.01, low=0.0, help="AdamW's, or SGD's L2; never on biases and normalisation"
    ),
    "layer_decay": Knob(
        default=1.0,
        low=0.0,
        low_excluded=True,
        high=1.0,
        help="factor on the learning rate per boundary, counted down from the head",
    ),
    "warmup": Knob(
        default=0.1, low=0.0, high=1.0, help="share of the steps with rising learning rate"
    ),
    "label_smoothing": Knob(
        default=0.0, low=0.0, high=0.99, help="share of the target spread over all classes"
    ),
    "head_init": Knob(
        default="auto",
        words=("auto", "logistic", "zero"),
        help="what the head starts as; logistic: the linear probe on the same labels; auto: that",
    ),
    "interpolation": Knob(
        default="auto",
        low=0.0,
        high=1.0,
        words=("auto",),
        help="share of the way from the starting weights to the trained ones that is kept; auto: "
        "of 0, 0.25, 0.5, 0.75 and 1 the one that validates best",
    ),
    "batchnorm": Knob(
        default="auto",
        words=("auto", "eval", "train"),
        help="of the trained part; auto: eval below 500 training images",
    ),
    "trainable": Knob(
        default="all",
        words=("all", "bitfit"),
        help="what learns of the part that is not frozen: all of it, or biases alone; and the head",
    ),
    "image_size": Knob(
        default="auto",
        low=1,
        high=MOST_PIXELS_A_SIDE,
        integer=True,
        words=("auto",),
        help="side in pixels; auto: the size the weights were trained for",
    ),
    "precision": Knob(
        default="auto",
        words=("auto", "fp32", "bf16"),
        help="of the forward pass; auto: bf16 autocast on a GPU, fp32 on a CPU",
    ),
}
"""The keys of `training:` in a search-space file; each may be an axis of `search:` instead."""

ADDED_SETTINGS = ("interpolation",)
"""Keys of `KNOBS` that version 0.1.0 did not have. At its default such a key is left out wherever
settings are written or hashed, so that what was written before means the same."""


def without_added_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by key without those of `ADDED_SETTINGS` that are at their defaults."""
    return {
        name: value
        for name, value in values.items()
        if name not in ADDED_SETTINGS or value != KNOBS[name].default
    }
