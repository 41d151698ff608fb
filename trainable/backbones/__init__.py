"""The registry of backbones: `NAME[@WEIGHTS]` -> weights as arrays -> a model ready to be cut.

`load_weights` accesses files and the internet, and is called by the driver; a `Backbone` is made
from its result in any process, without files. `sources` has the sources of backbones: `shipped`,
`torchvision_models`, `timm_models` and those of other packages; `custom_models` is for the user's
code.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainable.backbones.backbone import Backbone
from trainable.backbones.builders import builder_called
from trainable.backbones.naming import few
from trainable.backbones.source import TextSource
from trainable.backbones.sources import (
    CUSTOM,
    describe,
    expand,
    known_problem,
    modality_of_name,
    names,
    source_of,
    source_of_name,
    task_of_name,
    without_weights,
)
from trainable.backbones.weights import BackboneInfo, Preprocessing, Weights
from trainable.errors import BackboneError
from trainable.spec.custom_backbone import CustomBackbone

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone

__all__ = [
    "Backbone",
    "BackboneInfo",
    "Preprocessing",
    "Weights",
    "describe",
    "expand",
    "known_problem",
    "load_weights",
    "modality_of_name",
    "names",
    "network",
    "network_graph",
    "shipped_modules",
    "task_of_name",
    "tokenizer_of",
    "trace_on_meta",
    "untrained",
]


def tokenizer_of(weights: Weights) -> bytes:
    """Content of the tokenizer.json that belongs to weights of a backbone for texts.

    Raises:
        BackboneError: there is none, or it is another one by now.
    """
    builder = builder_called(weights.source)
    if not isinstance(builder, TextSource):
        raise BackboneError(f"{weights.backbone}: {weights.source} has no tokenizers")
    return builder.tokenizer_of(weights)


def trace_on_meta(name: str, *, size: int) -> TracedBackbone:
    """The graph of the network that a backbone's default weights belong to, without weights.

    It is on the meta device, which is enough to find its boundaries and to count parameters and
    FLOPs, and takes no memory and about a second. Not thread-safe: no other thread may build
    modules.

    Args:
        name: of the backbone.
        size: of its examples; see `Backbone`.

    Raises:
        BackboneError: the name is unknown, the size does not suit it, or it cannot be traced.
    """
    from trainable.backbones.memoryless import without_memory

    source = source_of_name(name)
    model = without_memory(lambda: source.architecture(name, size=size))
    return source.trace(model.to("meta").eval(), size=size)


def untrained(name: str) -> Backbone:
    """Return a backbone with random weights, to inspect its structure without reading any.

    Raises:
        BackboneError: the name is unknown.
    """
    return Backbone(load_weights(without_weights(name)))


def network(weights: Weights, *, size: int) -> nn.Module:
    """The architecture that weights belong to, in eval mode; what it holds means nothing.

    Args:
        weights: their arrays are not read.
        size: of its examples; see `Backbone`.

    Raises:
        BackboneError: there is no such architecture here, or it cannot be built.
        PluginError: no installed package has the source of the weights.
    """
    own = weights.undecoded
    builder = builder_called(own.source)
    if own.source != CUSTOM and source_of_name(own.architecture) is not builder:
        raise BackboneError(f"{own.source} has no {own.architecture!r}")
    return builder_called(weights.source).build(weights, size=size).eval()


def network_graph(weights: Weights, *, size: int) -> TracedBackbone:
    """The graph of `network`, with whatever weights that has.

    Raises:
        BackboneError: there is no such architecture here, or it cannot be built or traced.
    """
    return builder_called(weights.source).trace(network(weights, size=size), size=size)


def load_weights(backbone: str | CustomBackbone, *, task: str = "classification") -> Weights:
    """Load the weights of `NAME[@WEIGHTS]` or of the user's code.

    Args:
        backbone: the backbone.
        task: what it will be trained for; where that is a map of classes, a backbone for
            classification becomes the encoder under a decoder.

    Raises:
        BackboneError: the name is unknown, the code fails, a file is missing, damaged or unsafe,
            the weights hold NaN, or the backbone is not for this task.
    """
    weights = _load(backbone)
    broken = [name for name, array in weights.arrays.items() if _has_nan(array)]
    if broken:
        given = backbone.name if isinstance(backbone, CustomBackbone) else backbone
        raise BackboneError(
            f"{given}: the weights hold NaN, as those of a training that diverged do: "
            f"{few(broken)}. Take an earlier checkpoint"
        )
    if weights.task == task:
        return weights
    if task == "segmentation" and weights.modality == "image":
        from trainable.backbones.decoders import with_decoder

        return with_decoder(weights)
    raise BackboneError(
        f"{weights.backbone} is for {weights.task} of {weights.modality}s, and cannot be trained "
        f"for {task}; sft-sweep backbones lists others"
    )


def _load(backbone: str | CustomBackbone) -> Weights:
    if isinstance(backbone, CustomBackbone):
        from trainable.backbones import custom_models

        return custom_models.load(backbone)
    problem = known_problem(backbone)
    if problem is not None:
        raise BackboneError(problem)
    name, _, wanted = backbone.partition("@")
    source = source_of(name)
    assert source is not None
    return source.load(name, wanted, backbone)


def _has_nan(array: npt.NDArray[np.generic]) -> bool:
    """Return whether a value is NaN; infinite ones are allowed, since attention masks use them."""
    return np.issubdtype(array.dtype, np.inexact) and bool(np.isnan(array).any())


def shipped_modules(backbone: CustomBackbone) -> list[ModuleType]:
    """Return the user's top-level packages and modules that other machines need.

    Raises:
        BackboneError: it cannot be imported.
    """
    from trainable.backbones import custom_models

    return custom_models.shipped_modules(backbone)
