"""The axes of `search:`: their allowed values, and the canonical spelling of each value."""

from __future__ import annotations

from collections.abc import Mapping

from trainable.spec.refusals import refusal
from trainable.spec.setting import Setting, Value
from trainable.spec.settings import CHOICES, SETTINGS, block_range

AXIS_SETTINGS: Mapping[str, Setting] = {**CHOICES, **SETTINGS}
"""The axes that take numbers or words from a list."""

FREEZING = ("freeze_depth", "frozen_blocks", "train_blocks")
"""Axes that set how much is frozen; a file uses one of them."""

AXIS_NAMES: tuple[str, ...] = ("backbone", "train_blocks", *AXIS_SETTINGS)
"""Every axis of `search:`; `label_budget` is a key there, but not an axis."""

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
    """Return the problem with an axis value as one line, or None if it is allowed."""
    if name == "train_blocks":
        return refusal(value, BLOCKS_ALLOWED) if block_range(value) is None else None
    if name != "backbone":
        return AXIS_SETTINGS[name].problem(value)
    if isinstance(value, str) and value.isprintable() and value == value.strip():
        network, at, weights = value.partition("@")
        if network and (weights or not at):
            return None
    return refusal(value, BACKBONE_ALLOWED)


def canonical_axis_value(name: str, value: Value | list[int]) -> Value:
    """Return the canonical spelling of an allowed value of an axis."""
    if name == "train_blocks":
        return "{}-{}".format(*(block_range(value) or ()))
    assert not isinstance(value, list)
    return value if name == "backbone" else AXIS_SETTINGS[name].canonical(value)
