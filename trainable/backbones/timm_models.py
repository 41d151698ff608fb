"""The models of timm, if it is installed: `timm:NAME[.TAG][@WEIGHTS]`.

timm is an optional extra and imported only when one of its names is used.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from trainable.backbones import coverage
from trainable.backbones.files import read_state_dict, to_array
from trainable.backbones.fitting import Fit, misfit
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.tracing import LeafModules
from trainable.backbones.hub import cached, fetch
from trainable.backbones.naming import shortened
from trainable.backbones.unwrapping import unwrap
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

NAME = "timm"
PREFIX = "timm:"

_PLACEHOLDER_CLASSES = 10
"""Outputs of the head that is replaced; many vision towers come without a head."""

_REFUSALS = (
    TypeError,
    ValueError,
    RuntimeError,
    LookupError,
    AttributeError,
    AssertionError,
)
"""Errors that timm raises if an image size does not suit a model, or names cannot be translated."""

_RANDOM_SEED = 0
_MOST_TAGS_SHOWN = 8
_NOT_INSTALLED = "timm is not installed; install it with: pip install 'sft-sweep[timm]'"


def owns(name: str) -> bool:
    """Return whether a name belongs to this source, known or not."""
    return name.startswith(PREFIX)


@functools.cache
def names() -> list[str]:
    """Return all names, without weights; empty if timm is not installed."""
    return [PREFIX + name for name in _timm().list_models()] if _is_installed() else []


def problem(name: str, wanted: str) -> str | None:
    """Return the problem with the requested weights, or None; no weights are read."""
    if not _is_installed():
        return _NOT_INSTALLED
    architecture, tag = _parts(name)
    if not _timm().is_model(architecture):
        return f"unknown model of timm{_near(architecture)}; see: sft-sweep backbones 'timm:*'"
    if wanted and wanted != RANDOM and not is_path(wanted):
        return (
            f"unknown weights; allowed: timm's own tag as {PREFIX}{architecture}.TAG, @{RANDOM}, "
            "or @ and a file, with a suffix or its folder in its name"
        )
    known = _timm().models.get_arch_pretrained_cfgs(architecture)
    tags = [full.partition(".")[2] for full in known]
    if tag and tag not in tags:
        shown = ", ".join(tags[:_MOST_TAGS_SHOWN]) or "none"
        return f"unknown tag {tag!r} of {architecture}; its tags: {shown}"
    config = _config(name)
    if not wanted and not (config.url or config.hf_hub_id):
        return f"timm has no weights for it; write {name}@{RANDOM} or {name}@FILE"
    if config.crop_mode not in ("center", "squash"):
        return f"its images are cut in a way that is not supported: {config.crop_mode}"
    return None


def describe(name: str) -> BackboneInfo:
    """Return timm's metadata of the default weights."""
    config = _config(name)
    return BackboneInfo(
        name=name,
        source=NAME,
        version=config.tag or RANDOM,
        num_params=None,
        input_size=int(config.input_size[-1]),
        cached=cached(config) is not None,
        licence=config.license,
        pretraining=config.tag,
    )


def load(name: str, wanted: str, backbone: str) -> Weights:
    """Load the weights; see `trainable.backbones.load_weights`."""
    config = _config(name)
    licence = pretraining = None
    notes: tuple[str, ...] = ()
    if wanted == RANDOM:
        arrays, version = _arrays_of(_create(name)), RANDOM
    elif wanted:
        found = unwrap(wanted, build=lambda: _create(name), fit=lambda arrays: _fit(name, arrays))
        arrays, version, notes = found.arrays, wanted, found.notes
    else:
        arrays, version = _converted(name, fetch(name, config)), config.tag or NAME
        licence, pretraining = config.license, config.tag
    return Weights(
        backbone=backbone,
        source=NAME,
        architecture=name,
        version=version,
        preprocessing=preprocessing_of(config),
        arrays=arrays,
        digest=digest_of(arrays),
        licence=licence,
        pretraining=pretraining,
        notes=notes,
    )


def architecture(name: str, *, size: int) -> nn.Module:
    """The architecture for square images of `size` pixels, with random weights."""
    return _create(name, image_size=size)


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture that the weights belong to."""
    return architecture(weights.architecture, size=size)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as the model takes them; timm resamples what depends on the number of patches."""
    del model
    if size == _config(weights.architecture).input_size[-1]:
        return weights.arrays
    return _fit(weights.architecture, weights.arrays, image_size=size).arrays


def trace(model: nn.Module, *, size: int) -> graph.TracedBackbone:
    """The graph, with what timm itself keeps torch.fx from looking into as single nodes."""
    timm = _timm()
    modules, functions = timm.layers.get_notrace_modules(), timm.layers.get_notrace_functions()
    leaf_modules = LeafModules(tuple(modules), tuple(functions), timm.__version__)
    return graph.trace(model, image_size=size, leaf_modules=leaf_modules)


def _is_installed() -> bool:
    return importlib.util.find_spec("timm") is not None


def _timm() -> ModuleType:
    if not _is_installed():
        raise BackboneError(_NOT_INSTALLED)
    return importlib.import_module("timm")


def _parts(name: str) -> tuple[str, str]:
    """Return architecture and tag of `timm:ARCHITECTURE[.TAG]`; the tag can be empty."""
    architecture, _, tag = name.removeprefix(PREFIX).partition(".")
    return architecture, tag


def _near(architecture: str) -> str:
    near = difflib.get_close_matches(PREFIX + architecture, names(), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _config(name: str) -> Any:
    return _timm().get_pretrained_cfg(name.removeprefix(PREFIX))


def preprocessing_of(config: Any) -> Preprocessing:
    """Return timm's evaluation transform of a pretrained configuration."""
    size = int(config.input_size[-1])
    return Preprocessing(
        image_size=size,
        resize_size=math.floor(size / config.crop_pct),
        interpolation=config.interpolation,
        mean=tuple(config.mean),
        std=tuple(config.std),
        squash=config.crop_mode == "squash",
    )


def _create(
    name: str,
    *,
    image_size: int | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> nn.Module:
    """Build a model with seeded random weights, or with a state dict that timm can convert.

    Raises:
        BackboneError: the image size does not suit it, or timm cannot use the state dict.
    """
    config = _config(name)
    options: dict[str, Any] = {"num_classes": _PLACEHOLDER_CLASSES}
    if image_size is not None and image_size != config.input_size[-1] and config.fixed_input_size:
        options["img_size"] = image_size
    if state is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    try:
        with torch.random.fork_rng(devices=[]), _loading_in_silence():
            torch.manual_seed(_RANDOM_SEED)
            model: nn.Module = _timm().create_model(name.removeprefix(PREFIX), **options)
    except _REFUSALS as error:
        size = f" for images of {image_size} pixels" if "img_size" in options else ""
        what = " from such weights" if state is not None else ""
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise BackboneError(f"{name} cannot be built{size}{what}: {reason}") from error
    return model


@contextlib.contextmanager
def _loading_in_silence() -> Iterator[None]:
    """Suppress timm's log of each state dict, which lists every skipped name."""
    logger = logging.getLogger("timm.models._builder")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _fit(name: str, arrays: Arrays, *, image_size: int | None = None) -> Fit:
    """Convert a state dict in timm's or the original format to that of the network.

    Raises:
        BackboneError: an entry of the network outside its classifiers is missing.
    """
    state = {entry: torch.tensor(array) for entry, array in arrays.items()}
    with coverage.watched_loading() as loaded:
        model = _create(name, image_size=image_size, state=state)
    head = _head_entries(model)
    found = coverage.Coverage(
        missing=tuple(entry for entry in loaded[-1].missing if entry not in head),
        misshapen={e: text for e, text in loaded[-1].misshapen.items() if e not in head},
        left_over=loaded[-1].left_over,
    )
    if found.gaps:
        raise BackboneError(f"{name}: {misfit(found)}")
    return Fit(
        arrays=_arrays_of(model),
        left_over=found.left_over,
        model=model,
        heads=tuple({entry.rpartition(".")[0] for entry in head}),
    )


def _converted(name: str, path: Path) -> Arrays:
    """Read timm's own weight file and translate its names as timm does.

    Entries that timm does not use are dropped.

    Raises:
        BackboneError: the file lacks entries of the architecture.
    """
    arrays = read_state_dict(path)
    try:
        return _fit(name, arrays).arrays
    except BackboneError as error:
        raise BackboneError(f"{path}: {error}") from error


def _head_entries(model: Any) -> set[str]:
    """Return names of parameters and buffers of a model's classifier or classifiers."""
    found = model.get_classifier()
    modules = found if isinstance(found, tuple | list) else (found,)
    inside = {
        id(entry) for module in modules for entry in module.state_dict(keep_vars=True).values()
    }
    entries = model.state_dict(keep_vars=True)
    return {name for name, entry in entries.items() if id(entry) in inside}


def _arrays_of(model: nn.Module) -> Arrays:
    return {name: to_array(tensor) for name, tensor in sorted(model.state_dict().items())}
