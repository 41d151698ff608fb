"""Backbones as torch.fx graphs, with the dependence, shape and cost of every node.

The mechanism is the same for every model; nothing here is specific to a family of networks.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from trainable.backbones.graphs.facts import NodeFacts, examine, module_on, modules_of
from trainable.backbones.graphs.heads import (
    classifier,
    dense_heads,
    return_only_value,
    several_heads,
)
from trainable.backbones.graphs.inputs import GraphInputs, ImageInputs
from trainable.backbones.graphs.tracing import TRANSPARENT, LeafModules, traced_module
from trainable.errors import BackboneError


@dataclass(frozen=True, eq=False)
class TracedBackbone:
    """A backbone as a graph.

    Attributes:
        module: the graph with the backbone's own submodules and parameters; eval mode.
        facts: per node of `module.graph`.
        heads: nodes of the layers that fine-tuning replaces, in the order of the graph; the output
            comes from them alone. One in a classifier.
        inputs: what the graph takes, for the size that the facts are about.
        sizes: all sizes of inputs that this very graph is right for; see `resized`.
        version: of what tracing did not look into, where that has one; see `LeafModules`.
        without_dropout: whether train mode computes what eval mode does, because what the
            backbone computes in train mode is another graph.
        cuts: names of the nodes to cut after, where whoever made the graph knows them; else empty,
            and they are searched for.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    heads: tuple[fx.Node, ...]
    inputs: GraphInputs
    sizes: range
    version: str | None = None
    without_dropout: bool = False
    cuts: tuple[str, ...] = ()

    @property
    def head(self) -> fx.Node:
        """The node of the only head.

        Raises:
            BackboneError: there are several.
        """
        if len(self.heads) > 1:
            raise BackboneError(several_heads(self.heads))
        return self.heads[0]

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the layers of the heads within the module."""
        return tuple(dict.fromkeys(str(head.target) for head in self.heads))

    @property
    def side_inputs(self) -> tuple[str, ...]:
        """Names of the inputs behind the first, which is the content input."""
        return tuple(str(node.target) for node in self.side_nodes)

    @property
    def side_nodes(self) -> list[fx.Node]:
        """Placeholders of the side inputs."""
        return [node for node in self.module.graph.nodes if node.op == "placeholder"][1:]


def trace(
    model: nn.Module,
    *,
    image_size: int,
    leaf_modules: LeafModules = TRANSPARENT,
    dense: bool = False,
) -> TracedBackbone:
    """Trace `model` for RGB images of image_size x image_size pixels.

    Args:
        model: the model; the graph shares its parameters.
        image_size: side of the images, in pixels.
        leaf_modules: modules and functions that torch.fx does not trace.
        dense: whether the model predicts a map of classes; see `examined`.

    Raises:
        BackboneError: the model cannot be traced, or has no head to replace.
    """
    return examined(
        traced_module(model, leaf_modules=leaf_modules),
        ImageInputs(image_size),
        sizes=range(image_size, image_size + 1),
        version=leaf_modules.version,
        dense=dense,
    )


def examined(
    module: fx.GraphModule,
    inputs: GraphInputs,
    *,
    sizes: range,
    version: str | None = None,
    without_dropout: bool = False,
    dense: bool = False,
    cuts: Sequence[str] = (),
) -> TracedBackbone:
    """A graph with the facts of its nodes and its heads; see `TracedBackbone`.

    Args:
        module: the graph; changed in place if it is dense.
        inputs: see `TracedBackbone`.
        sizes: see `TracedBackbone`.
        version: see `TracedBackbone`.
        without_dropout: see `TracedBackbone`.
        dense: whether the graph predicts a map of classes (N, C, H, W), for which it may have
            several heads. A mapping with that map alone becomes the map itself.
        cuts: see `TracedBackbone`.

    Raises:
        BackboneError: the graph refuses the inputs, or has no head to replace.
    """
    if dense:
        return_only_value(module)
    facts = examine(module, inputs, modules=modules_of(module.graph))
    return TracedBackbone(
        module=module,
        facts=facts,
        heads=dense_heads(module, facts) if dense else (classifier(module, facts),),
        inputs=inputs,
        sizes=sizes,
        version=version,
        without_dropout=without_dropout,
        cuts=tuple(cuts),
    )


def resized(traced: TracedBackbone, size: int) -> TracedBackbone:
    """The same graph, no copy of it, with the facts of another size of its inputs.

    Args:
        traced: the backbone.
        size: one of `traced.sizes`.

    Raises:
        BackboneError: the graph refuses such inputs after all.
    """
    inputs = traced.inputs.resized(size)
    modules = {node: facts.modules for node, facts in traced.facts.items()}
    return replace(traced, facts=examine(traced.module, inputs, modules=modules), inputs=inputs)


def with_module(traced: TracedBackbone, module: fx.GraphModule) -> TracedBackbone:
    """The same backbone with another module that has the same graph."""
    twins = dict(zip(traced.module.graph.nodes, module.graph.nodes, strict=True))
    return replace(
        traced,
        module=module,
        facts={twins[node]: facts for node, facts in traced.facts.items()},
        heads=tuple(twins[head] for head in traced.heads),
    )


def copied_to(device: torch.device, traced: TracedBackbone) -> TracedBackbone:
    """The same graph on a device, sharing nothing; on the meta device in no memory."""
    return with_module(traced, module_on(device, traced.module))


def share_tensors(module: fx.GraphModule, other: fx.GraphModule, *, names: Iterable[str]) -> None:
    """Let a module hold another's tensors in place of equal ones of its own, to save memory.

    Args:
        module: changed in place.
        other: of the same backbone; what both have under one of the names is equal.
        names: of parameters and buffers.
    """
    for name in names:
        path, _, leaf = name.rpartition(".")
        with contextlib.suppress(AttributeError):  # not every graph uses every tensor
            own, its = module.get_submodule(path), other.get_submodule(path)
            tensor = getattr(its, leaf)
            if leaf in own._parameters and isinstance(tensor, nn.Parameter):
                own._parameters[leaf] = tensor
            elif leaf in own._buffers and leaf in its._buffers:
                own._buffers[leaf] = tensor


def live_sets(traced: TracedBackbone) -> Iterator[tuple[fx.Node, tuple[fx.Node, ...]]]:
    """Yield every node that carries content, with all nodes that carry content on behind it.

    What lies behind a node depends on content through the second alone, which are in the order of
    the graph. The node itself is among them unless its value is used by nothing.
    """
    nodes = list(traced.module.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    facts = traced.facts
    last_use = {  # as content; of what only a shape or a device is asked may be gone by then
        node: max((position[u] for u in node.users if facts[u].content), default=-1)
        for node in nodes
    }
    alive = list[fx.Node]()
    for i, node in enumerate(nodes):
        if facts[node].content:
            alive.append(node)
        alive = [other for other in alive if last_use[other] > i]
        if facts[node].content:
            yield node, tuple(alive)


def lone_carriers(traced: TracedBackbone) -> list[fx.Node]:
    """Nodes that alone carry content on: whatever lies behind one depends on content through it.

    They are in the order of the graph, from the content input to the output.
    """
    return [node for node, alive in live_sets(traced) if alive == (node,)]


def independent_copy(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that shares no tensor and is freed as soon as nothing refers to it.

    A graph refers back to its module, so that a module with gigabytes of weights, gradients and
    optimizer state would wait for the cyclic garbage collector, which counts objects, not bytes.
    Without that reference the graph still runs, but cannot be edited.
    """
    copied = copy.deepcopy(module)
    copied.graph.owning_module = None
    return copied
