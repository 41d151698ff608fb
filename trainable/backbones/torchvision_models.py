"""The classification models of torchvision, under torchvision's names of models and weights.

Nothing here is specific to a model: differences are read from the signature of the class that a
builder is annotated to return.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import VisionTransformer, get_model_builder, list_models
from torchvision.models.vision_transformer import interpolate_embeddings

from trainable.backbones.files import to_array
from trainable.backbones.fitting import Fit, fit_by_names
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.memoryless import without_memory
from trainable.backbones.torchvision_files import (
    described,
    load_named,
    member_of,
    preset_of,
    problem,
)
from trainable.backbones.unwrapping import Unwrapped, unwrap
from trainable.backbones.weights import (
    RANDOM,
    Arrays,
    BackboneInfo,
    Preprocessing,
    Weights,
)
from trainable.errors import BackboneError

__all__ = [
    "NAME",
    "PREFIX",
    "adapt",
    "architecture",
    "build",
    "builder_options",
    "describe",
    "load",
    "names",
    "owns",
    "problem",
    "trace",
]

NAME = "torchvision"
PREFIX = ""

_RANDOM_SEED = 0


def owns(name: str) -> bool:
    """Return whether a name belongs to this source."""
    return name in names()


@functools.cache
def names() -> list[str]:
    """Return all names, without weights."""
    return list(list_models(torchvision.models))


def describe(name: str) -> BackboneInfo:
    """Return torchvision's metadata of the default weights."""
    return described(name, NAME, input_size=int(preset_of(name, "").crop_size[0]))


def load(name: str, wanted: str, backbone: str) -> Weights:
    """Load the weights; see `trainable.backbones.load_weights`."""
    found = load_named(
        name, wanted, random=lambda: _random(name), unwrapped=lambda: _unwrapped(name, wanted)
    )
    preset = preset_of(name, wanted)
    preprocessing = Preprocessing(
        image_size=int(preset.crop_size[0]),
        resize_size=int(preset.resize_size[0]),
        interpolation=str(preset.interpolation.value),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return found.weights(NAME, name, backbone, preprocessing)


def architecture(name: str, *, size: int) -> nn.Module:
    """The architecture of the pretrained weights, with random ones; see `build`."""
    return _build(name, image_size=size, pretrained=True)


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture for square images of `size` pixels, without auxiliary heads."""
    pretrained = weights.version != RANDOM
    return _build(weights.architecture, image_size=size, pretrained=pretrained)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as the model takes them.

    Position embeddings are interpolated to its number of patches; auxiliary heads are left out.
    """
    return _adapted(weights.arrays, model, image_size=size)


def _adapted(arrays: Arrays, model: nn.Module, *, image_size: int) -> Arrays:
    if "aux_logits" in inspect.signature(type(model)).parameters:
        parts = {name.partition(".")[0] for name in model.state_dict()}
        arrays = {name: a for name, a in arrays.items() if name.partition(".")[0] in parts}
    positions = "encoder.pos_embedding"
    if isinstance(model, VisionTransformer) and arrays.get(positions, np.zeros(0)).ndim == 3:
        state = OrderedDict({positions: torch.tensor(arrays[positions])})
        with contextlib.suppress(ValueError):  # not a square of patches: reported as a misfit
            interpolate_embeddings(image_size, model.patch_size, state)
        arrays = {**arrays, positions: to_array(state[positions])}
    return arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of an architecture; torch.fx follows all of them."""
    return graph.trace(model, image_size=size)


def builder_options(name: str, *, image_size: int, pretrained: bool) -> dict[str, Any]:
    """Return keyword arguments of torchvision's builder, beside `weights` and `num_classes`."""
    parameters = inspect.signature(_class_of(get_model_builder(name))).parameters
    options: dict[str, Any] = {}
    if "image_size" in parameters:
        options["image_size"] = image_size
    if "input_size" in parameters:
        options["input_size"] = (image_size, image_size)
    if "aux_logits" in parameters:
        options["aux_logits"] = False
    if "transform_input" in parameters:  # torchvision's pretrained weights expect it
        options["transform_input"] = pretrained
    if "init_weights" in parameters and parameters["init_weights"].default is None:
        options["init_weights"] = False  # PyTorch's own initialisation, as announced
    return options


def _build(name: str, *, image_size: int, pretrained: bool) -> nn.Module:
    builder = get_model_builder(name)
    options = builder_options(name, image_size=image_size, pretrained=pretrained)
    try:
        model: nn.Module = builder(weights=None, progress=False, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise BackboneError(
            f"{name} cannot be built for images of {image_size} x {image_size} pixels: {error}"
        ) from error
    return model


def _unwrapped(name: str, weights: str) -> Unwrapped:
    """Return the weights of a file, `FILE[#PART]`, which may be a checkpoint.

    Raises:
        BackboneError: the file cannot be read, or lacks entries of the architecture.
    """
    size = int(member_of(name, "").transforms().crop_size[0])
    model = without_memory(lambda: architecture(name, size=size))

    def fit(arrays: Arrays) -> Fit:
        return fit_by_names(model, arrays, _adapted(arrays, model, image_size=size))

    return unwrap(weights, build=lambda: model, fit=fit)


def _class_of(builder: Any) -> type[nn.Module]:
    annotation = inspect.signature(inspect.unwrap(builder)).return_annotation
    assert isinstance(annotation, type)
    return annotation


def _random(name: str) -> Arrays:
    """Return the state dict of a seeded random initialisation, equal on every machine."""
    size = int(member_of(name, "").transforms().crop_size[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = _build(name, image_size=size, pretrained=False)
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}
