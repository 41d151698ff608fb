"""The shelf of backbones: `NAME[@WEIGHTS]` -> weights as arrays -> a model ready to be cut.

`load_weights` touches files and the network and belongs to the driver; a `Backbone` is made from
what it returns, anywhere, without files. One module a source of backbones: `shipped`,
`torchvision_models`, `timm_models`, and `custom_models` for the user's own code.

A name of a shipped backbone is checked without importing torch, so that a search-space file is
checked before anything that takes seconds.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import TYPE_CHECKING

from trainable.backbones import shipped
from trainable.backbones.weights import RANDOM, Arrays, Preprocessing, ShelfEntry, Weights
from trainable.custom import CustomBackbone
from trainable.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

    from trainable.graphs import TracedBackbone

__all__ = [
    "Backbone",
    "Preprocessing",
    "ShelfEntry",
    "Weights",
    "describe",
    "expand",
    "known_problem",
    "load_weights",
    "names",
    "network",
    "network_graph",
    "outline",
    "reachable",
    "shipped_modules",
    "untrained",
]

_MODULES = {
    "shipped": "shipped",
    "torchvision": "torchvision_models",
    "timm": "timm_models",
    "custom": "custom_models",
}
"""By the name of a source, where it is."""


class Backbone:
    """A backbone in this process: built and traced once per image size, never trained itself.

    Args:
        weights: of the backbone; copied, never written to.
        graphs: by image size, what `graphs` of the same backbone was in another process. Where
            there is one the network is neither built nor traced, nor is its library imported.
    """

    def __init__(self, weights: Weights, graphs: Mapping[int, bytes] | None = None) -> None:
        self.weights = weights
        self._given = graphs or {}
        self._traced: dict[int, TracedBackbone] = {}

    @property
    def graphs(self) -> Mapping[int, bytes]:
        """By image size, of the sizes that it was traced at so far and whose graph can travel."""
        from trainable.transport import to_bytes

        found = {
            size: to_bytes(traced, self.weights.arrays) for size, traced in self._traced.items()
        }
        return {size: content for size, content in found.items() if content is not None}

    def traced(self, image_size: int) -> TracedBackbone:
        """Its graph for square images of `image_size` pixels.

        Raises:
            BackboneError: the size does not suit it, it cannot be traced, or the weights do not
                fit.
        """
        if image_size not in self._traced:
            found = self._given.get(image_size)
            self._traced[image_size] = (
                self._trace(image_size) if found is None else self._rebuilt(found)
            )
        return self._traced[image_size]

    def outlined(self, image_size: int) -> Backbone:
        """The same at one image size, its network without memory on the meta device.

        Raises:
            BackboneError: see `traced`.
        """
        import torch

        from trainable.graphs import copied_to

        twin = Backbone(self.weights)
        twin._traced[image_size] = copied_to(torch.device("meta"), self.traced(image_size))
        return twin

    def model(self, image_size: int) -> nn.Module:
        """The network itself, in eval mode: built anew, with its weights and some head.

        Raises:
            BackboneError: see `traced`.
        """
        model, arrays = self._built(image_size)
        head = str(self.traced(image_size).head.target)
        _copy_into(model, self.weights, arrays, head=head)
        return model.eval()

    def _built(self, image_size: int) -> tuple[nn.Module, Arrays]:
        """The architecture, and the arrays as it takes them, not yet copied into it."""
        source = _source_called(self.weights.source)
        model: nn.Module = source.build(self.weights, image_size=image_size)
        return model, source.adapt(self.weights, model, image_size=image_size)

    def _trace(self, image_size: int) -> TracedBackbone:
        from trainable.graphs import trace

        opaque = _source_called(self.weights.source).opaque()
        model, arrays = self._built(image_size)
        traced = trace(model.eval(), image_size=image_size, opaque=opaque)
        _copy_into(model, self.weights, arrays, head=str(traced.head.target))
        return traced

    def _rebuilt(self, graph: bytes) -> TracedBackbone:
        from trainable.backbones import custom_models
        from trainable.transport import from_bytes

        own = self.weights.source == custom_models.NAME
        with custom_models.importable(self.weights) if own else nullcontext():
            return from_bytes(graph, self.weights.arrays)


def names(pattern: str = "*") -> list[str]:
    """The known names that match a glob pattern, shipped ones first.

    timm's, more than a thousand, are asked for by patterns that begin with `timm:`.
    """
    first, *others, in_timm = _shelf()
    sources = [in_timm] if in_timm.owns(pattern) else [first, *others]
    every = [name for source in sources for name in source.names()]
    return [name for name in every if fnmatch.fnmatchcase(name, pattern)]


def expand(pattern: str) -> list[str]:
    """The backbones meant by `NAME[@WEIGHTS]` whose NAME may be a glob pattern.

    A name that matches nothing is returned as it is, for `known_problem` to tell.
    """
    name, at, wanted = pattern.partition("@")
    if _source_of(name) is shipped:
        return [pattern]
    return [match + at + wanted for match in names(name)] or [pattern]


def known_problem(backbone: str) -> str | None:
    """What is wrong with `NAME[@WEIGHTS]`, or None; no weights are read."""
    name, _, wanted = backbone.partition("@")
    source = _source_of(name)
    if source is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"got {backbone!r}; unknown backbone{hint or '.'} See: sft-sweep backbones"
    problem: str | None = source.problem(name, wanted)
    return None if problem is None else f"got {backbone!r}; {problem}"


def describe(name: str) -> ShelfEntry:
    """What is known of a backbone's default weights without reading them.

    Raises:
        BackboneError: the name is unknown.
    """
    entry: ShelfEntry = _source_of_name(name).describe(name)
    return entry


def outline(name: str, *, image_size: int) -> TracedBackbone:
    """The graph of the network that a backbone's default weights belong to, without weights.

    All of it lies on the meta device: enough to find its boundaries and to count what it costs, in
    no memory and about a second. Not for several threads at a time that build modules.

    Args:
        name: of the backbone.
        image_size: side of its square images, in pixels.

    Raises:
        BackboneError: the name is unknown, the size does not suit it, or it cannot be traced.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    from trainable.graphs import trace

    source = _source_of_name(name)
    # Not `with torch.device("meta")`: some models compute their widths with tensors. Parameters
    # lose their memory before they are initialised, so that what they draw is a formality.
    without_memory = register_module_parameter_registration_hook(
        _without_memory  # type: ignore[arg-type]  # torch's annotation forgets what may come back
    )
    try:
        with without_memory, torch.random.fork_rng(devices=[]):
            model: nn.Module = source.architecture(name, image_size=image_size)
    except BackboneError:  # a few of timm's compute with weights that they have just drawn
        model = source.architecture(name, image_size=image_size)
    return trace(model.to("meta").eval(), image_size=image_size, opaque=source.opaque())


def untrained(name: str) -> Backbone:
    """A backbone with random weights, to look at its structure without reading any.

    Raises:
        BackboneError: the name is unknown.
    """
    return Backbone(load_weights(_without_weights(name)))


def network(weights: Weights, *, image_size: int) -> nn.Module:
    """The architecture that weights belong to, in eval mode; what it holds means nothing.

    Args:
        weights: their arrays are not read.
        image_size: side of its square images, in pixels.

    Raises:
        BackboneError: there is no such architecture here, or it cannot be built.
    """
    if weights.source not in _MODULES:
        raise BackboneError(
            f"{weights.backbone}: unknown source {weights.source!r}; known: {', '.join(_MODULES)}"
        )
    source = _source_called(weights.source)
    if source in _shelf() and _source_of_name(weights.architecture) is not source:
        raise BackboneError(f"{weights.source} has no {weights.architecture!r}")
    model: nn.Module = source.build(weights, image_size=image_size)
    return model.eval()


def network_graph(weights: Weights, *, image_size: int) -> TracedBackbone:
    """The graph of `network`, with whatever weights that has.

    Raises:
        BackboneError: there is no such architecture here, or it cannot be built or traced.
    """
    from trainable.graphs import trace

    model = network(weights, image_size=image_size)
    return trace(model, image_size=image_size, opaque=_source_called(weights.source).opaque())


def load_weights(backbone: str | CustomBackbone) -> Weights:
    """The weights that `NAME[@WEIGHTS]` or the user's own code means, from where they lie.

    Raises:
        BackboneError: the name is unknown, the code fails, or a file is missing, damaged or unsafe.
    """
    if isinstance(backbone, CustomBackbone):
        from trainable.backbones import custom_models

        return custom_models.load(backbone)
    problem = known_problem(backbone)
    if problem is not None:
        raise BackboneError(problem)
    name, _, wanted = backbone.partition("@")
    source = _source_of(name)
    assert source is not None
    weights: Weights = source.load(name, wanted, backbone)
    return weights


def shipped_modules(backbone: CustomBackbone) -> list[ModuleType]:
    """The top-level packages and modules that other machines need; installed ones they have.

    Raises:
        BackboneError: it cannot be imported.
    """
    from trainable.backbones import custom_models

    return custom_models.shipped_modules(backbone)


def reachable(*, timeout_s: float) -> bool:
    """Whether torchvision's weights can be downloaded, found out within `timeout_s` seconds."""
    from trainable.backbones import torchvision_models

    return torchvision_models.reachable(timeout_s=timeout_s)


def _shelf() -> Iterator[ModuleType]:
    """The sources whose backbones have names of their own, imported as they are asked."""
    return map(_source_called, ("shipped", "torchvision", "timm"))


def _without_weights(name: str) -> str:
    return name if _source_of(name) is shipped else f"{name}@{RANDOM}"


def _source_of_name(name: str) -> ModuleType:
    """The source of a backbone whose weights do not matter.

    Raises:
        BackboneError: this is no name of one.
    """
    source = _source_of(name)
    if source is None:
        raise BackboneError(
            known_problem(name) or f"got {name!r}; a name alone is due here, without weights"
        )
    problem = known_problem(_without_weights(name))
    if problem is not None:
        raise BackboneError(problem)
    return source


def _source_of(name: str) -> ModuleType | None:
    return next((source for source in _shelf() if source.owns(name)), None)


def _source_called(name: str) -> ModuleType:
    """The source that weights name; it alone is imported: torchvision and its compiler take 2 s."""
    return importlib.import_module(f"{__name__}.{_MODULES[name]}")


def _without_memory(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    from torch import nn

    del module, name
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


def _copy_into(model: nn.Module, weights: Weights, arrays: Arrays, *, head: str) -> None:
    """Load arrays into a model; only the head, which is replaced anyway, may not fit."""
    from trainable.backbones import coverage

    found = coverage.load(model, arrays, head=head)
    if found:
        version = "" if weights.version in weights.backbone else f" ({weights.version})"
        raise BackboneError(
            f"{weights.backbone}{version}: the weights do not fit the architecture: {found}"
        )
