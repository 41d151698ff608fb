"""Backbones that come with the package: `trainable.zoo`."""

from __future__ import annotations

from torch import nn

from trainable import zoo
from trainable.backbones.files import read_state_dict
from trainable.backbones.weights import Arrays, Preprocessing, Weights, digest_of

NAME = "shipped"


def names() -> list[str]:
    """All names, without weights."""
    return list(zoo.ENTRIES)


def problem(name: str, wanted: str) -> str | None:
    """What is wrong with the weights asked for, or None."""
    if wanted:
        return f"{name} has one set of weights: write {name} alone, not {name}@{wanted}"
    return None


def cached(name: str, wanted: str) -> bool:
    """Whether the weights are on this machine: they always are."""
    del name, wanted
    return True


def load(name: str, wanted: str, backbone: str) -> Weights:
    """The weights; see `trainable.backbones.load_weights`."""
    del wanted
    arrays = read_state_dict(zoo.weights_path(name))
    return Weights(
        backbone=backbone,
        source=NAME,
        architecture=name,
        version=name,
        preprocessing=Preprocessing(
            image_size=zoo.IMAGE_SIZE,
            resize_size=zoo.IMAGE_SIZE,
            interpolation="bilinear",
            mean=zoo.MEAN,
            std=zoo.STD,
        ),
        arrays=arrays,
        digest=digest_of(arrays),
        licence="Apache-2.0",
        pretraining="none" if name == "tiny_untrained" else "generated images",
    )


def build(weights: Weights, *, image_size: int) -> nn.Module:
    """The architecture with random weights; it takes images of any size."""
    del weights, image_size
    return zoo.build()


def adapt(weights: Weights, model: nn.Module, *, image_size: int) -> Arrays:
    """The arrays as they are."""
    del model, image_size
    return weights.arrays
