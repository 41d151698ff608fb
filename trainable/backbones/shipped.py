"""Backbones that come with the package: `trainable.backbones.zoo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainable.backbones import zoo
from trainable.backbones.weights import (
    Arrays,
    BackboneInfo,
    Preprocessing,
    Weights,
    digest_of,
)

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone

NAME = "shipped"
PREFIX = ""

_LICENCE = "Apache-2.0"


def owns(name: str) -> bool:
    """Whether a name belongs to this source."""
    return name in zoo.ENTRIES


def names() -> list[str]:
    """All names, without weights."""
    return list(zoo.ENTRIES)


def problem(name: str, wanted: str) -> str | None:
    """What is wrong with the weights asked for, or None."""
    if wanted:
        return f"{name} has one set of weights: write {name} alone, not {name}@{wanted}"
    return None


def describe(name: str) -> BackboneInfo:
    """What is known of it; its weights are always there."""
    return BackboneInfo(
        name=name,
        source=NAME,
        version=name,
        num_params=sum(parameter.numel() for parameter in zoo.build().parameters()),
        input_size=zoo.IMAGE_SIZE,
        cached=True,
        licence=_LICENCE,
        pretraining=_pretraining(name),
    )


def load(name: str, wanted: str, backbone: str) -> Weights:
    """The weights; see `trainable.backbones.load_weights`."""
    from trainable.backbones.files import read_state_dict

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
        licence=_LICENCE,
        pretraining=_pretraining(name),
    )


def architecture(name: str, *, size: int) -> nn.Module:
    """The architecture with random weights; it takes images of any size."""
    del name, size
    return zoo.build()


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture that the weights belong to."""
    return architecture(weights.architecture, size=size)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as they are."""
    del model, size
    return weights.arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of the architecture; torch.fx follows all of it."""
    from trainable.backbones.graphs import graph

    return graph.trace(model, image_size=size)


def _pretraining(name: str) -> str:
    return "none" if name == "tiny_untrained" else "generated images"
