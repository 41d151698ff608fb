"""The segmentation models of torchvision, under torchvision's names of models and weights.

They are used without the auxiliary head of their pretraining.
"""

from __future__ import annotations

import functools

import torch
import torchvision
from torch import nn
from torchvision.models import get_model_builder, list_models

from trainable.backbones.files import is_original, to_array
from trainable.backbones.fitting import Fit, fit_by_names
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.memoryless import without_memory
from trainable.backbones.torchvision_files import (
    cache_path,
    fetch,
    member_of,
    pretrained,
    pretraining,
    problem,
)
from trainable.backbones.unwrapping import unwrap
from trainable.backbones.weights import (
    RANDOM,
    Arrays,
    BackboneInfo,
    Preprocessing,
    Weights,
    digest_of,
)
from trainable.spec.weight_paths import is_path

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
    member = member_of(name, "")
    return BackboneInfo(
        name=name,
        source=NAME,
        version=member.name,
        num_params=int(member.meta["num_params"]),
        input_size=int(member.transforms().resize_size[0]),
        cached=cache_path(member).is_file(),
        licence=member.meta.get("license"),
        pretraining=pretraining(member),
        task=TASK,
    )


def load(name: str, wanted: str, backbone: str) -> Weights:
    """Load the weights; see `trainable.backbones.load_weights`."""
    member = member_of(name, "" if wanted == RANDOM or is_path(wanted) else wanted)
    licence = data = None
    notes: tuple[str, ...] = ()
    if wanted == RANDOM:
        arrays, version = _random(name), RANDOM
    elif is_path(wanted):
        model = without_memory(lambda: architecture(name, size=0))

        def fit(found: Arrays) -> Fit:
            return fit_by_names(model, found, _without_auxiliary(found))

        unwrapped = unwrap(wanted, build=lambda: model, fit=fit)
        arrays, version, notes = unwrapped.arrays, wanted, unwrapped.notes
    else:
        path = fetch(name, member)
        version = member.name if is_original(path) else f"{member.name} (own file)"
        arrays = pretrained(name, member, path)
        licence = member.meta.get("license")
        data = pretraining(member)
    arrays = _without_auxiliary(arrays)
    preset = member.transforms()
    side = int(preset.resize_size[0])
    return Weights(
        backbone=backbone,
        source=NAME,
        architecture=name,
        version=version,
        preprocessing=Preprocessing(
            image_size=side,
            resize_size=side,
            interpolation=str(preset.interpolation.value),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            squash=True,
        ),
        arrays=arrays,
        digest=digest_of(arrays),
        licence=licence,
        pretraining=data,
        notes=notes,
        task=TASK,
    )


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


def _without_auxiliary(arrays: Arrays) -> Arrays:
    return {name: one for name, one in arrays.items() if not name.startswith(_AUXILIARY)}


def _random(name: str) -> Arrays:
    """Return the state dict of a seeded random initialisation, equal on every machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = architecture(name, size=0)
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}
