"""Allowed values of keys, and the table of training settings.

The search-space file, the specification of a trial, their messages and the documentation use these
checks, defaults and texts. Numbers have one canonical type per key (int or float), so that `1` and
`1.0` are equal in every setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trainable.spec.refusals import refusal

Value = int | float | str
"""The value of an axis."""

_MAX_WHOLE = 2**63


class Text(StrEnum):
    """Kinds of free text that a key accepts, as messages name them."""

    NAME = "text"
    COLUMN = "the name of one column (pairs of texts are not supported yet)"
    PATH = "a path"
    PATTERN = "a regular expression"

    def accepts(self, value: str) -> bool:
        """Return whether the text is of this kind."""
        if self is Text.PATTERN:
            try:
                re.compile(value)
            except re.error:
                return False
        return bool(value) and "\0" not in value


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Allowed values of one key, in search-space files and in trial specifications.

    Attributes:
        help: one line for docs/search-space.md.
        default: value if none is given; None if there is none, or if its section sets it.
        low: smallest number allowed; None if only words are allowed.
        high: largest number allowed; None for no limit.
        low_excluded: whether `low` itself is refused.
        high_excluded: whether `high` itself is refused.
        integer: whether numbers have to be whole.
        words: texts allowed, beside or instead of a number.
        text: kind of free text allowed; None if only `words` are allowed.
        flag: whether only true and false are allowed.
    """

    help: str
    default: Value | None = None
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    high_excluded: bool = False
    integer: bool = False
    words: tuple[str, ...] = ()
    text: Text | None = None
    flag: bool = False

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
        """Return whether the value is allowed; a bool is never a number."""
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
        """Return the canonical form of an accepted value."""
        if isinstance(value, str | bool):
            return value
        return int(value) if self.integer else float(value) + 0.0

    def problem(self, value: object) -> str | None:
        """Return the message for a value that is not allowed; None for an allowed one."""
        return None if self.accepts(value) else refusal(value, self.allowed, self.words)


def finite_number(value: object) -> int | float | None:
    """Return the value if it is a finite float or an int below 2^63 in size, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < _MAX_WHOLE else None
    return value if math.isfinite(value) else None


_BLOCKS = re.compile(r"([1-9][0-9]{0,5})-([1-9][0-9]{0,5})")


def block_range(value: object) -> tuple[int, int] | None:
    """Return the first and last block of `"3-5"` or `[3, 5]`, from 1; None for other values.

    Block k lies between boundaries k - 1 and k.
    """
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "-".join(str(end) for end in value)
    found = _BLOCKS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


DEFAULT_FREEZE_DEPTH = 0.0
DEFAULT_LR = 1e-3

CHOICES: Mapping[str, Setting] = {
    "freeze_depth": Setting(
        default=DEFAULT_FREEZE_DEPTH,
        low=0.0,
        high=1.0,
        help="share of the backbone's boundaries that stay frozen; 0 trains all, 1 the head alone",
    ),
    "frozen_blocks": Setting(
        low=-1,
        integer=True,
        help="boundaries that stay frozen, -1 for all; instead of freeze_depth",
    ),
    "lr": Setting(default=DEFAULT_LR, low=0.0, low_excluded=True, help="peak learning rate"),
}
"""Settings that a search space varies beside the backbone and `training:`."""

SEED = Setting(low=0, integer=True, help="seed of every random draw")

MOST_IMAGES_A_BATCH = 2**16
"""Limit of `batch_size`, in images. Few labels need far less, since batches are drawn with
replacement; above it the draw itself takes much memory."""

MOST_PIXELS_A_SIDE = 2**13
"""Limit of `image_size`, in pixels: such an image takes 0.8 GB as float32, before any layer."""

LEAST_TOKENS, MOST_TOKENS = 4, 512
"""Limits of `max_length`; fewer than the first leave no room beside the special tokens."""

LEAST_AUTO_BATCH, MOST_AUTO_BATCH = 16, 64
"""Limits of `batch_size: auto`, in images."""


def automatic_batch_size(num_train: int) -> int:
    """Return the images per update for `batch_size: auto`.

    Args:
        num_train: number of training images.
    """
    return min(MOST_AUTO_BATCH, max(LEAST_AUTO_BATCH, num_train))


SETTINGS: Mapping[str, Setting] = {
    "steps": Setting(
        default=200, low=1, integer=True, help="optimizer updates of a trial, in each fold"
    ),
    "reports": Setting(
        default=5,
        low=1,
        integer=True,
        help="evaluations during training, evenly spread, after one of the start; at most steps",
    ),
    "batch_size": Setting(
        default="auto",
        low=1,
        high=MOST_IMAGES_A_BATCH,
        integer=True,
        words=("auto",),
        help="images per update, drawn with replacement; auto: "
        f"min({MOST_AUTO_BATCH}, max({LEAST_AUTO_BATCH}, training images))",
    ),
    "optimizer": Setting(default="adamw", words=("adamw", "sgd"), help="sgd has momentum 0.9"),
    "weight_decay": Setting(
        default=0.01,
        low=0.0,
        help="AdamW's, or SGD's L2 penalty; never on biases and normalisation",
    ),
    "layer_decay": Setting(
        default=1.0,
        low=0.0,
        low_excluded=True,
        high=1.0,
        help="factor on the learning rate per boundary, counted down from the head",
    ),
    "warmup": Setting(
        default=0.1, low=0.0, high=1.0, help="share of the steps with rising learning rate"
    ),
    "label_smoothing": Setting(
        default=0.0, low=0.0, high=0.99, help="share of the target spread over all classes"
    ),
    "head_init": Setting(
        default="auto",
        words=("auto", "logistic", "zero"),
        help="start of the head; logistic: the linear probe on the same labels; auto: logistic",
    ),
    "interpolation": Setting(
        default="auto",
        low=0.0,
        high=1.0,
        words=("auto",),
        help="share of the way from the starting weights to the trained ones that is kept; auto: "
        "of 0, 0.25, 0.5, 0.75 and 1 the one that validates best",
    ),
    "batchnorm": Setting(
        default="auto",
        words=("auto", "eval", "train"),
        help="mode of BatchNorm in the trained part; auto: eval below 500 training images",
    ),
    "trainable": Setting(
        default="all",
        words=("all", "bitfit"),
        help="what learns of the part that is not frozen: all of it, or biases alone; and the head",
    ),
    "image_size": Setting(
        default="auto",
        low=1,
        high=MOST_PIXELS_A_SIDE,
        integer=True,
        words=("auto",),
        help="side in pixels; auto: the size the weights were trained for",
    ),
    "max_length": Setting(
        default="auto",
        low=LEAST_TOKENS,
        high=MOST_TOKENS,
        integer=True,
        words=("auto",),
        help="most tokens of a text, the rest is cut off; auto: what the backbone was made for, at "
        "most 256",
    ),
    "precision": Setting(
        default="auto",
        words=("auto", "fp32", "bf16"),
        help="number format of the forward pass; auto: bf16 autocast on a GPU, fp32 on a CPU",
    ),
}
"""The keys of `training:` in a search-space file; each can be an axis of `search:` instead."""

SIZES: Mapping[str, str] = {"image": "image_size", "text": "max_length"}
"""The setting that sizes a backbone's input, by modality; it says nothing of another one."""

UNITS: Mapping[str, str] = {"image": "px", "text": "tokens"}
"""The unit of that size, by modality."""

DEFAULTS: Mapping[str, Value] = {
    name: setting.canonical(setting.default)
    for name, setting in SETTINGS.items()
    if setting.default is not None
}
"""Default value by key of `SETTINGS`."""

FOR_TEXTS = ("max_length",)
"""Keys of `SETTINGS` that say nothing of images."""

ADDED_SETTINGS = ("interpolation", *FOR_TEXTS)
"""Keys of `SETTINGS` that version 0.1.0 did not have. At its default such a key is left out when
settings are written or hashed, so that earlier records and hashes stay valid."""


def without_added_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those of `ADDED_SETTINGS` at their defaults."""
    return {
        name: value
        for name, value in values.items()
        if name not in ADDED_SETTINGS or value != DEFAULTS[name]
    }
