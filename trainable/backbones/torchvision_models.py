"""The classification models of torchvision, by the names and weights that torchvision gives them.

Nothing here knows a single model: what differs between them is read from the signature of the
class that a builder says it returns.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import socket
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import getproxies

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import VisionTransformer, WeightsEnum, get_model_builder, list_models
from torchvision.models import get_model_weights as weights_of
from torchvision.models.vision_transformer import interpolate_embeddings

from trainable.backbones.files import is_original, named_hash, read_tensors, to_array
from trainable.backbones.fitting import Fit, fit_by_names
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.memoryless import without_memory
from trainable.backbones.unwrapping import Unwrapped, unwrap
from trainable.backbones.weights import (
    RANDOM,
    Arrays,
    BackboneInfo,
    Preprocessing,
    Weights,
    digest_of,
)
from trainable.errors import BackboneError
from trainable.spec.weight_paths import is_path

NAME = "torchvision"
PREFIX = ""

_RANDOM_SEED = 0


def owns(name: str) -> bool:
    """Whether a name belongs to this source."""
    return name in names()


@functools.cache
def names() -> list[str]:
    """All names, without weights."""
    return list(list_models(torchvision.models))


def problem(name: str, wanted: str) -> str | None:
    """What is wrong with the weights asked for, or None; no weights are read."""
    if not wanted or wanted == RANDOM or is_path(wanted):
        return None
    versions = [member.name for member in weights_of(name)]
    if wanted in (*versions, "DEFAULT"):
        return None
    return (
        f"unknown weights of {name}; allowed: {', '.join(versions)}, {RANDOM}, or a file, with a "
        "suffix or its folder in its name"
    )


def describe(name: str) -> BackboneInfo:
    """What torchvision says of its default weights."""
    member = _member(name, "")
    return BackboneInfo(
        name=name,
        source=NAME,
        version=member.name,
        num_params=int(member.meta["num_params"]),
        input_size=int(member.transforms().crop_size[0]),
        cached=_cache_path(member).is_file(),
        licence=member.meta.get("license"),
        pretraining=_pretraining(member),
    )


def load(name: str, wanted: str, backbone: str) -> Weights:
    """The weights; see `trainable.backbones.load_weights`."""
    member = _member(name, "" if wanted == RANDOM or is_path(wanted) else wanted)
    licence = pretraining = None
    notes: tuple[str, ...] = ()
    if wanted == RANDOM:
        arrays, version = _random(name), RANDOM
    elif is_path(wanted):
        found = _unwrapped(name, wanted)
        arrays, version, notes = found.arrays, wanted, found.notes
    else:
        path = _fetch(name, member)
        version = member.name if is_original(path) else f"{member.name} (own file)"
        arrays = _pretrained(name, member, path)
        licence = member.meta.get("license")
        pretraining = _pretraining(member)
    preset = member.transforms()
    return Weights(
        backbone=backbone,
        source=NAME,
        architecture=name,
        version=version,
        preprocessing=Preprocessing(
            image_size=int(preset.crop_size[0]),
            resize_size=int(preset.resize_size[0]),
            interpolation=str(preset.interpolation.value),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        ),
        arrays=arrays,
        digest=digest_of(arrays),
        licence=licence,
        pretraining=pretraining,
        notes=notes,
    )


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
        with contextlib.suppress(ValueError):  # no square of patches: its shape is told
            interpolate_embeddings(image_size, model.patch_size, state)
        arrays = {**arrays, positions: to_array(state[positions])}
    return arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of an architecture; torch.fx follows all of them."""
    return graph.trace(model, image_size=size)


def builder_options(name: str, *, image_size: int, pretrained: bool) -> dict[str, Any]:
    """What torchvision's own builder is called with, beside `weights` and `num_classes`."""
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
    """The weights of a file, `FILE[#PART]`, that may be a checkpoint.

    Raises:
        BackboneError: the file cannot be read, or does not have what the architecture needs.
    """
    size = int(_member(name, "").transforms().crop_size[0])
    model = without_memory(lambda: architecture(name, size=size))

    def fit(arrays: Arrays) -> Fit:
        return fit_by_names(model, arrays, _adapted(arrays, model, image_size=size))

    return unwrap(weights, build=lambda: model, fit=fit)


def _class_of(builder: Any) -> type[nn.Module]:
    annotation = inspect.signature(inspect.unwrap(builder)).return_annotation
    assert isinstance(annotation, type)
    return annotation


def _member(name: str, wanted: str) -> WeightsEnum:
    enum = weights_of(name)
    return enum.DEFAULT if wanted in ("", "DEFAULT") else enum[wanted]


def _pretrained(name: str, member: WeightsEnum, path: Path) -> Arrays:
    """The state dict as torchvision itself loads it, names of former versions translated.

    torchvision would unpickle the file without restraint, and what is harmless to one reader runs
    code in another. So the file is read here, safely, and torchvision gets its tensors.
    """
    state = read_tensors(path)
    try:
        with _handing_out(state):
            model: nn.Module = get_model_builder(name)(weights=member, progress=False)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BackboneError(f"{path}: does not fit {name}: {error}") from error
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}


@contextlib.contextmanager
def _handing_out(state: dict[str, torch.Tensor]) -> Iterator[None]:
    """Let torchvision's builders find this state dict instead of opening a file."""

    def found(member: WeightsEnum, *args: object, **options: object) -> dict[str, torch.Tensor]:
        del member, args, options
        return state

    own = WeightsEnum.get_state_dict
    WeightsEnum.get_state_dict = found
    try:
        yield
    finally:
        WeightsEnum.get_state_dict = own


def _random(name: str) -> Arrays:
    """A state dict as the architecture initialises itself, the same on every machine."""
    size = int(_member(name, "").transforms().crop_size[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = _build(name, image_size=size, pretrained=False)
    return {key: to_array(tensor) for key, tensor in sorted(model.state_dict().items())}


def _pretraining(member: WeightsEnum) -> str | None:
    """The data sets that torchvision reports scores on; what it trained on, as far as it tells."""
    return ", ".join(member.meta.get("_metrics", {})) or None


def _cache_path(member: WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(member.url).path).name


def reachable(*, timeout_s: float) -> bool:
    """Whether the place that missing weights are fetched from answers, or a proxy stands before it.

    Args:
        timeout_s: how long it may take.
    """
    url = urlparse(_member(names()[0], "").url)
    if url.scheme in getproxies():
        return True
    try:
        socket.create_connection((str(url.hostname), 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _fetch(name: str, member: WeightsEnum) -> Path:
    """The file in torch's hub cache, fetched into it where it is missing."""
    path = _cache_path(member)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                member.url, str(path), hash_prefix=named_hash(path), progress=False
            )
        except (URLError, OSError, RuntimeError) as error:
            raise BackboneError(
                f"{name}@{member.name}: the weights are not on this machine and cannot be fetched "
                f"({error}). Put the file {path.name} into {path.parent}"
            ) from error
    return path
