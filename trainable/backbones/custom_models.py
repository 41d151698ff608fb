"""Backbones built by the user's code: a function that returns a model, found by module name."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from trainable.backbones.files import to_array
from trainable.backbones.fitting import fit_by_names
from trainable.backbones.graphs import graph
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.unwrapping import unwrap
from trainable.backbones.weights import (
    IMAGENET_PREPROCESSING,
    Arrays,
    Preprocessing,
    Weights,
    digest_of,
)
from trainable.errors import BackboneError
from trainable.spec.custom_backbone import CustomBackbone
from trainable.stdout import stdout_to_stderr

NAME = "custom"

AS_BUILT = "as built"
"""Version of the weights that the user's function itself sets."""


def load(backbone: CustomBackbone) -> Weights:
    """Build the model once, and return its weights or those of the weight file.

    Raises:
        BackboneError: the function cannot be found, fails, or does not return a model; the weight
            file is missing, damaged or unsafe, or does not fit.
    """
    model = _built(backbone.module, backbone.args, image_size=None)
    notes: tuple[str, ...] = ()
    if backbone.weights is None:
        arrays: Arrays = {
            name: to_array(tensor) for name, tensor in sorted(model.state_dict().items())
        }
        version = AS_BUILT
    else:
        found = unwrap(
            backbone.weights,
            build=lambda: model,
            fit=lambda arrays: fit_by_names(model, arrays, arrays),
        )
        arrays, version, notes = found.arrays, backbone.weights, found.notes
    return Weights(
        backbone=backbone.name,
        source=NAME,
        architecture=backbone.module,
        args=backbone.args,
        version=version,
        preprocessing=_preprocessing(backbone, model),
        arrays=arrays,
        digest=digest_of(arrays),
        notes=notes,
    )


def build(weights: Weights, *, size: int) -> nn.Module:
    """The architecture, built by the user's function."""
    return _built(weights.architecture, weights.args, image_size=size)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as they are."""
    del model, size
    return weights.arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph; the user's code says with torch.fx.wrap what is not to be looked into."""
    return graph.trace(model, image_size=size)


@contextlib.contextmanager
def importable(weights: Weights) -> Iterator[None]:
    """Import the user's module, and keep its folder importable within the block.

    Raises:
        BackboneError: it cannot be imported.
    """
    _function(weights.architecture)
    with _importing_from_here(_top(weights.architecture)):
        yield


def shipped_modules(backbone: CustomBackbone) -> list[ModuleType]:
    """Return the user's top-level packages and modules that other machines need.

    These are the one that the search space names, and those imported from the same folder, except
    installed ones.

    Raises:
        BackboneError: it cannot be imported.
    """
    _function(backbone.module)
    names = dict.fromkeys([_top(backbone.module), *_found_here])
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return [module for module in modules if not _is_installed(module)]


def _top(module: str) -> str:
    return module.partition(":")[0].partition(".")[0]


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", ()))  # a namespace package
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    return not places or any(installed & set(Path(place).resolve().parents) for place in places)


def _built(module: str, args: Mapping[str, Any], *, image_size: int | None) -> nn.Module:
    function = _function(module)
    options = dict(args)
    if image_size is not None and "image_size" in inspect.signature(function).parameters:
        options["image_size"] = image_size
    try:
        with _importing_from_here(_top(module)), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random initial values are equal on every machine
            model = function(**options)
    except Exception as error:
        raise BackboneError(
            f"{module}(**{options}) failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise BackboneError(f"{module} returned {type(model).__name__}; allowed: a torch.nn.Module")
    return model


def _function(module: str) -> Any:
    name, _, function = module.partition(":")
    with _importing_from_here(_top(name)):
        try:
            found = getattr(importlib.import_module(name), function, None)
        except Exception as error:
            raise BackboneError(
                f"{module}: cannot be imported from {Path.cwd()}: {type(error).__name__}: {error}. "
                f"Start from the folder where `python -c 'import {name}'` works"
            ) from error
    if not callable(found):
        raise BackboneError(f"{module}: {name} has no function {function}")
    return found


class _FinderHere:
    """Finds top-level modules in a folder.

    Args:
        folder: folder to search.
        top: the only module that it finds; None for all.
    """

    def __init__(self, folder: Path, *, top: str | None = None) -> None:
        self._folder = str(folder)
        self._top = top

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module and record its name; see `importlib.abc.MetaPathFinder`."""
        if path is not None or self._top not in (None, name):
            return None
        spec = PathFinder.find_spec(name, [self._folder], target)
        if spec is not None:
            _found_here[name] = None
        return spec


_found_here: dict[str, None] = {}
"""Names of the modules that were found in the working directory."""


@contextlib.contextmanager
def _importing_from_here(top: str) -> Iterator[None]:
    """Import modules from the working directory too: `top` first, the others last.

    So a file there that has the name of an installed package does not shadow it. Output of the
    user's code to stdout goes to stderr.
    """
    first, last = _FinderHere(Path.cwd(), top=top), _FinderHere(Path.cwd())
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    try:
        with stdout_to_stderr():
            yield
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)


def _preprocessing(backbone: CustomBackbone, model: nn.Module) -> Preprocessing:
    given = getattr(model, "preprocessing", None)
    if given is None:
        size = backbone.args.get("image_size", IMAGENET_PREPROCESSING.image_size)
        return IMAGENET_PREPROCESSING.resized(int(size))
    try:
        return Preprocessing(**{"resize_size": given["image_size"], **given})
    except (TypeError, KeyError) as error:
        fields = ", ".join(Preprocessing.__dataclass_fields__)
        raise BackboneError(
            f"{backbone.module}: its model's `preprocessing` is {given!r}; allowed: a mapping with "
            f"{fields}"
        ) from error
