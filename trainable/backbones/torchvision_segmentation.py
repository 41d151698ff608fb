"""The segmentation models of torchvision, under torchvision's names of models and weights.

They are used without the auxiliary head of their pretraining.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
import torchvision
from torch import nn
from torchvision.models import get_model_builder, list_models

from trainable.backbones.files import to_array
from trainable.backbones.fitting import Fit, fit_by_names
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.memoryless import without_memory
from trainable.backbones.torchvision_files import described, load_named, preset_of, problem
from trainable.backbones.unwrapping import Unwrapped, unwrap
from trainable.backbones.weights import Arrays, BackboneInfo, Preprocessing, Weights

__all__ = [
    "NAME",
    "PREFIX",
    "TASK",
    "adapt",
    "architecture",
    "build",
    "describe",
    "load",
    "names",
    "owns",
    "problem",
    "trace",
]

NAME = "torchvision_segmentation"
PREFIX = ""
TASK = "segmentation"

_RANDOM_SEED = 0
_AUXILIARY = "aux_classifier."


def owns(name: str) -> bool:
    """Return whether a name belongs to this source."""
    return name in names()


@functools.cache
def names() -> list[str]:
    """Return all names, without weights."""
    return list(list_models(torchvision.models.segmentation))


def describe(name: str) -> BackboneInfo:
    """Return torchvision's metadata of the default weights."""
    return described(name, NAME, input_size=int(preset_of(name, "").resize_size[0]), task=TASK)


def load(name: str, wanted: str, backbone: str) -> Weights:
    """Load the weights; see `trainable.backbones.load_weights`."""
    found = load_named(
        name, wanted, random=lambda: _random(name), unwrapped=lambda: _unwrapped(name, wanted)
    )
    preset = preset_of(name, wanted)
    side = int(preset.resize_size[0])
    preprocessing = Preprocessing(
        image_size=side,
        resize_size=side,
        interpolation=str(preset.interpolation.value),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        squash=True,
    )
    found = replace(found, arrays=_without_auxiliary(found.arrays))
    return found.weights(NAME, name, backbone, preprocessing, task=TASK)


def architecture(name: str, *, size: int) -> nn.Module:
    """The architecture with random weights; it takes images of any size."""
    del size
    model: nn.Module = get_model_builder(name)(
        weights=None, weights_backbone=None, aux_loss=False, progress=False
    )
    return model


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture that the weights belong to."""
    return architecture(weights.architecture, size=size)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as they are."""
    del model, size
    return weights.arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of an architecture; torch.fx follows all of them."""
    return graph.trace(model, image_size=size, dense=True)


def _unwrapped(name: str, weights: str) -> Unwrapped:
    """Return the weights of a file, `FILE[#PART]`, which may be a checkpoint.

    Raises:
        BackboneError: the file cannot be read, or lacks entries of the architecture.
    """
    model = without_memory(lambda: architecture(name, size=0))

    def fit(arrays: Arrays) -> Fit:
        return fit_by_names(model, arrays, _without_auxiliary(arrays))

    return unwrap(weights, build=lambda: model, fit=fit)


def _without_auxiliary(arrays: Arrays) -> Arrays:
    return {name: one for name, one in arrays.items() if not name.startswith(_AUXILIARY)}


def _random(name: str) -> Arrays:
    """Return the state dict of a seeded random initialisation, equal on every machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = architecture(name, size=0)
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}
