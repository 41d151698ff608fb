"""Dense networks from backbones for classification: their body as encoder, under a light decoder.

The weights of such a network are those of the encoder, and seeded random ones of the decoder.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import fx, nn

from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.cut_points import shape_of
from trainable.backbones.decoders.unet import Decoder, widths_of
from trainable.backbones.files import to_array
from trainable.backbones.graphs.graph import TracedBackbone, examined, lone_carriers
from trainable.backbones.graphs.inputs import ImageInputs
from trainable.backbones.sources import builder_called
from trainable.backbones.weights import DECODED, Arrays, Preprocessing, Weights, digest_of
from trainable.errors import BackboneError

__all__ = ["adapt", "build", "trace", "with_decoder"]

MOST_MAPS = 5
"""Most maps of the encoder that the decoder takes; with its own map, as many tensors as a cut hands
over."""

LEAST_SHARE = 0.5
"""Least share of the encoder's forward pass that lies before its last map. A vision transformer has
one map, that of its patches, before nearly all that it has learnt."""

_DECODER = "unet_decoder"
_RANDOM_SEED = 0
_CUT = "cut"
"""Key in the metadata of nodes to cut after: the boundaries of the encoder up to its last map, and
the ends of the decoder's blocks."""


def with_decoder(weights: Weights) -> Weights:
    """Return the weights of the dense network whose encoder has these weights.

    Args:
        weights: of a backbone of images, for classification.

    Raises:
        BackboneError: it makes no maps of features.
    """
    size = weights.image_preprocessing.image_size
    with torch.random.fork_rng(devices=[]):  # building a network draws weights that are not used
        traced = _traced(weights, size=size)
    maps = _maps_of(traced)
    if not maps or _share_before(traced, maps[-1]) < LEAST_SHARE:
        raise BackboneError(
            f"{weights.backbone}: has no maps of features that a decoder could take; allowed: "
            "networks of convolutions, and torchvision's segmentation models"
        )
    widths = widths_of([shape_of(traced, node)[1] for node in maps], size=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        network = _network(traced, maps, widths, size=size)
    taken = network.state_dict()
    arrays = {
        **{name: one for name, one in weights.arrays.items() if name in taken},
        **{name: to_array(one) for name, one in taken.items() if name.startswith(f"{_DECODER}.")},
    }
    return replace(
        weights,
        source=DECODED,
        task="segmentation",
        args={
            "source": weights.source,
            "args": dict(weights.args),
            "maps": [node.name for node in maps],
            "widths": widths,
        },
        preprocessing=_squashed(weights.image_preprocessing),
        arrays=arrays,
        digest=digest_of(arrays),
    )


def build(weights: Weights, *, size: int) -> nn.Module:
    """The network for square images of `size` pixels; see `NetworkBuilder`."""
    traced = _traced(weights.undecoded, size=size)
    nodes = {node.name: node for node in traced.module.graph.nodes}
    try:
        maps = [nodes[name] for name in weights.args["maps"]]
    except KeyError as error:
        raise BackboneError(
            f"{weights.backbone}: at {size} x {size} pixels it is another network, without "
            f"{error}. Try another image_size"
        ) from error
    return _network(traced, maps, weights.args["widths"], size=size)


def adapt(weights: Weights, model: nn.Module, *, size: int) -> Arrays:
    """The arrays as they are."""
    del model, size
    return weights.arrays


def trace(model: nn.Module, *, size: int) -> TracedBackbone:
    """The graph of a network, which it is already."""
    assert isinstance(model, fx.GraphModule)
    cuts = [node.name for node in model.graph.nodes if _CUT in node.meta]
    return examined(model, ImageInputs(size), sizes=range(size, size + 1), dense=True, cuts=cuts)


def _squashed(preprocessing: Preprocessing) -> Preprocessing:
    """The whole image as a square, so that every pixel of its mask is predicted."""
    return replace(preprocessing, resize_size=preprocessing.image_size, squash=True)


def _traced(weights: Weights, *, size: int) -> TracedBackbone:
    builder = builder_called(weights.source)
    return builder.trace(builder.build(weights, size=size).eval(), size=size)


def _maps_of(traced: TracedBackbone) -> list[fx.Node]:
    """The last map of each resolution before the head, the finest first; the deepest of many.

    It is the last boundary of the resolution. Where the network pools, there is none behind the
    last layer before it, whose output is taken instead.
    """
    ends = {one.node for one in boundaries(traced)}
    before = itertools.takewhile(lambda node: node is not traced.head, lone_carriers(traced))
    sides = {
        node: shape[1]
        for node in before
        if len(shape := traced.facts[node].shape or ()) == 3 and shape[1] == shape[2] > 1
    }
    deepest = min(sides.values(), default=0)
    last = {side: node for node, side in sides.items() if node.name in ends or side == deepest}
    return [last[side] for side in sorted(last, reverse=True)][-MOST_MAPS:]


def _share_before(traced: TracedBackbone, node: fx.Node) -> float:
    """Share of the FLOPs of a forward pass that lie before the end of a node."""
    flops = {one: facts.flops for one, facts in traced.facts.items()}
    before = itertools.takewhile(lambda one: one is not node, traced.module.graph.nodes)
    return (sum(flops[one] for one in before) + flops[node]) / sum(flops.values())


def _network(
    traced: TracedBackbone, maps: Sequence[fx.Node], widths: Sequence[int], *, size: int
) -> fx.GraphModule:
    """The graph of an encoder up to its last map, and of a decoder behind it."""
    shapes = [shape_of(traced, node) for node in maps]
    channels, sides = [shape[0] for shape in shapes], [shape[1] for shape in shapes]
    decoder = Decoder(channels, sides, widths, size=size)
    behind = fx.Tracer().trace(decoder)
    ends = {f"blocks.{number}.relu" for number in range(len(decoder.blocks))}
    graph, copied = fx.Graph(), dict[fx.Node, fx.Node]()
    cuts = {one.node for one in boundaries(traced)} | {maps[-1].name}
    for node in traced.module.graph.nodes:
        copied[node] = graph.node_copy(node, copied.__getitem__)
        if node.name in cuts:
            copied[node].meta[_CUT] = True
        if node is maps[-1]:
            break
    for node in behind.nodes:
        if node.op == "placeholder":
            continue
        if node.target is operator.getitem:
            copied[node] = copied[maps[node.args[1]]]
            continue
        copied[node] = graph.node_copy(node, copied.__getitem__)
        copied[node].meta["nn_module_stack"] = {
            path: (f"{_DECODER}.{path}", kind)
            for path, kind in node.meta.get("nn_module_stack", {}).values()
        }
        if node.op == "call_module":
            if node.target in ends:
                copied[node].meta[_CUT] = True
            copied[node].target = f"{_DECODER}.{node.target}"
    traced.module.add_module(_DECODER, decoder)
    return fx.GraphModule(traced.module, graph)
