"""Backbones as torch.fx graphs, with the dependence, shape and cost of every node.

The mechanism is the same for every model; nothing here is specific to a family of networks.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from trainable.backbones.graphs.facts import NodeFacts, examine, module_on, modules_of
from trainable.backbones.graphs.inputs import GraphInputs, ImageInputs
from trainable.backbones.graphs.tracing import TRANSPARENT, LeafModules, traced_module
from trainable.errors import BackboneError


@dataclass(frozen=True, eq=False)
class TracedBackbone:
    """A backbone as a graph.

    Attributes:
        module: the graph with the backbone's own submodules and parameters; eval mode.
        facts: per node of `module.graph`.
        head: node of the classifier that fine-tuning replaces; the output comes from it alone.
        inputs: what the graph takes, for the size that the facts are about.
        sizes: all sizes of inputs that this very graph is right for; see `resized`.
        version: of what tracing did not look into, where that has one; see `LeafModules`.
        without_dropout: whether train mode computes what eval mode does, because what the
            backbone computes in train mode is another graph.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    head: fx.Node
    inputs: GraphInputs
    sizes: range
    version: str | None = None
    without_dropout: bool = False

    @property
    def side_inputs(self) -> tuple[str, ...]:
        """Names of the inputs behind the first, which is the content input."""
        return tuple(str(node.target) for node in self.side_nodes)

    @property
    def side_nodes(self) -> list[fx.Node]:
        """Placeholders of the side inputs."""
        return [node for node in self.module.graph.nodes if node.op == "placeholder"][1:]


def trace(
    model: nn.Module, *, image_size: int, leaf_modules: LeafModules = TRANSPARENT
) -> TracedBackbone:
    """Trace `model` for RGB images of image_size x image_size pixels.

    Args:
        model: the model; the graph shares its parameters.
        image_size: side of the images, in pixels.
        leaf_modules: modules and functions that torch.fx does not trace.

    Raises:
        BackboneError: the model cannot be traced, or has no single classifier to replace.
    """
    return examined(
        traced_module(model, leaf_modules=leaf_modules),
        ImageInputs(image_size),
        sizes=range(image_size, image_size + 1),
        version=leaf_modules.version,
    )


def examined(
    module: fx.GraphModule,
    inputs: GraphInputs,
    *,
    sizes: range,
    version: str | None = None,
    without_dropout: bool = False,
) -> TracedBackbone:
    """A graph with the facts of its nodes and its head; see `TracedBackbone`.

    Raises:
        BackboneError: the graph refuses the inputs, or has not one classifier to replace.
    """
    facts = examine(module, inputs, modules=modules_of(module.graph))
    heads = [node for node in module.graph.nodes if _is_classifier(module, node, facts)]
    if not heads:
        raise BackboneError(
            "the backbone has no classifier to replace; allowed: a last nn.Linear or 1x1 nn.Conv2d"
        )
    if not _all_passes(module, heads[-1], facts):
        raise BackboneError(
            "the backbone's output does not come from its last classifier alone "
            f"({heads[-1].target}); allowed: one head. Choose a variant without auxiliary or "
            "distillation heads"
        )
    return TracedBackbone(
        module=module,
        facts=facts,
        head=heads[-1],
        inputs=inputs,
        sizes=sizes,
        version=version,
        without_dropout=without_dropout,
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
        head=twins[traced.head],
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


def lone_carriers(traced: TracedBackbone) -> list[fx.Node]:
    """Nodes that alone carry content on: whatever lies behind one depends on content through it.

    They are in the order of the graph, from the content input to the output.
    """
    nodes = list(traced.module.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    facts = traced.facts
    last_use = {  # as content; of what only a shape or a device is asked may be gone by then
        node: max((position[u] for u in node.users if facts[u].content), default=-1)
        for node in nodes
    }
    found, alive = [], set[fx.Node]()
    for i, node in enumerate(nodes):
        if facts[node].content:
            alive.add(node)
        alive = {other for other in alive if last_use[other] > i}
        if alive == {node}:
            found.append(node)
    return found


def parameter_names(module: fx.GraphModule, node: fx.Node) -> set[str]:
    """Return the names of the parameters that a node itself has."""
    if node.op == "call_module":
        target = str(node.target)
        layer = module.get_submodule(target)
        return {f"{target}.{name}" for name, _ in layer.named_parameters()}
    if node.op == "get_attr":
        names = {name for name, _ in module.named_parameters()}
        return {str(node.target)} & names
    return set()


def independent_copy(module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that shares no tensor and is freed as soon as nothing refers to it.

    A graph refers back to its module, so that a module with gigabytes of weights, gradients and
    optimizer state would wait for the cyclic garbage collector, which counts objects, not bytes.
    Without that reference the graph still runs, but cannot be edited.
    """
    copied = copy.deepcopy(module)
    copied.graph.owning_module = None
    return copied


def can_classify(layer: nn.Module) -> bool:
    """Return whether a layer can be replaced as a classification head."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _all_passes(module: fx.GraphModule, head: fx.Node, facts: Mapping[fx.Node, NodeFacts]) -> bool:
    """Whether every path from the content input to the output passes through the node."""
    nodes = list(module.graph.nodes)
    behind = set(nodes[nodes.index(head) + 1 :])
    return not any(
        facts[source].content and source is not head and source not in behind
        for node in behind
        for source in node.all_input_nodes
    )


def _is_classifier(
    module: fx.GraphModule, node: fx.Node, facts: Mapping[fx.Node, NodeFacts]
) -> bool:
    if node.op != "call_module" or not facts[node].content:
        return False
    return can_classify(module.get_submodule(str(node.target)))
