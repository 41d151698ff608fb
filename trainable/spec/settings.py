"""The table of training settings: allowed values, defaults and what they mean.

The search-space file, the specification of a trial, their messages and the documentation use these
checks, defaults and texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trainable.spec.setting import Setting, Text, Value

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

AUTO = "auto"
"""Lets the backbone, its folder or the data decide."""

LEAST_TOKENS, MOST_TOKENS = 4, 512
"""Limits of `max_length`; fewer than the first leave no room beside the special tokens."""

POOLINGS = ("mean", "cls", "last", "max")
"""How the vectors of a text's tokens become one: their mean, the first or last of them, or the
largest value of each feature."""

TRUNCATIONS = ("head", "head_tail")
"""What is kept of a text that is too long: its beginning, or its beginning and its end."""

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
        help="mode of BatchNorm in the trained part; auto: eval below 5000 training images",
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
    "truncate": Setting(
        default="head",
        words=TRUNCATIONS,
        help="what is kept of a text that is too long; head: its first tokens; head_tail: a "
        "quarter of the room from its beginning, the rest from its end. Special tokens and the "
        "prompt stay",
    ),
    "prompt": Setting(
        default="auto",
        words=("auto",),
        text=Text.PROMPT,
        help="stands before every text; auto: what the backbone's folder says, mostly nothing",
    ),
    "pooling": Setting(
        default="auto",
        words=("auto", *POOLINGS),
        help="how the vectors of a text's tokens become one; mean: their mean, cls: the first, "
        "last: the last, max: the largest value of each feature; auto: what the backbone's folder "
        "says",
    ),
    "dropout": Setting(
        default="auto",
        low=0.0,
        high=1.0,
        high_excluded=True,
        words=("auto",),
        help="probability of the backbone's dropout in training, the same wherever it has some; "
        "auto: its own rates",
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

READINGS: Mapping[str, tuple[str, ...]] = {
    "image": (),
    "text": ("truncate", "prompt", "pooling"),
}
"""The settings that say how a backbone reads its input, beside the size, by modality. Features that
differ in one of them are different features."""

INPUTS = (*SIZES.values(), *READINGS["text"])
"""All settings that decide what a frozen backbone makes of an example, its precision aside."""

FOR_IMAGES = ("image_size",)
"""Keys of `SETTINGS` that say nothing of texts."""

FOR_TEXTS = ("max_length", *READINGS["text"], "dropout")
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
