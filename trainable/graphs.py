"""Backbones as torch.fx graphs, with what each node yields: pixels or shapes, how large, how dear.

One mechanism for every model: nothing here knows a family of networks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from trainable.compiler import defer
from trainable.errors import BackboneError
from trainable.tracing import TRANSPARENT, Opaque, traced_module

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

_BATCHES = (2, 3)


@dataclass(frozen=True)
class NodeFacts:
    """What one node yields for images of the traced size.

    Attributes:
        pixels: whether the value depends on pixel values, and not on shapes alone.
        results: the value for a batch of 2 and of 3 images, on the meta device.
        flops: floating-point operations of this node alone, per image.
    """

    pixels: bool
    results: tuple[Any, Any]
    flops: float

    @property
    def holds_tensor(self) -> bool:
        """Whether the value is a tensor or has one in it."""
        return _holds_tensor(self.results[0])

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape per image where the value is one tensor with the batch first, else None."""
        first, second = self.results
        if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
            return None
        if not first.dim() or (first.shape[0], second.shape[0]) != _BATCHES:
            return None
        return tuple(first.shape[1:])


Findings = Mapping[str, NodeFacts]
"""What was found out about a graph, by name of its nodes; may be sent to other processes."""


@dataclass(frozen=True, eq=False)
class TracedBackbone:
    """A backbone as a graph.

    Attributes:
        module: the graph with the backbone's own submodules and parameters; eval mode.
        facts: per node of `module.graph`.
        head: node of the classifier that fine-tuning replaces; the output comes from it alone.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    head: fx.Node

    @property
    def findings(self) -> Findings:
        """The facts, for `trace` to take in another process."""
        return {node.name: facts for node, facts in self.facts.items()}


def trace(
    model: nn.Module,
    *,
    image_size: int,
    opaque: Opaque = TRANSPARENT,
    findings: Findings | None = None,
) -> TracedBackbone:
    """The graph of `model` for RGB images of image_size x image_size pixels.

    Args:
        model: to be traced; what is returned shares its parameters.
        image_size: side of the images, in pixels.
        opaque: what torch.fx cannot follow and does not have to.
        findings: of an earlier trace of the same network at the same size; where they are of
            another graph, as another version of a package makes it, they are found out anew.

    Raises:
        BackboneError: the model cannot be traced, or has not one classifier to replace.
    """
    module = traced_module(model, opaque=opaque)
    names = [node.name for node in module.graph.nodes]
    if findings is not None and list(findings) == names:
        facts = {node: findings[node.name] for node in module.graph.nodes}
    else:
        facts = _examine(module, image_size)
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
    return TracedBackbone(module=module, facts=facts, head=heads[-1])


def lone_carriers(traced: TracedBackbone) -> list[fx.Node]:
    """Nodes that alone carry pixels on: whatever lies behind one depends on images through it.

    They are in the order of the graph, from the images to the output.
    """
    nodes = list(traced.module.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    facts = traced.facts
    last_use = {  # as pixels; of what only a shape or a device is asked may be gone by then
        node: max((position[u] for u in node.users if facts[u].pixels), default=-1)
        for node in nodes
    }
    found, alive = [], set[fx.Node]()
    for i, node in enumerate(nodes):
        if facts[node].pixels:
            alive.add(node)
        alive = {other for other in alive if last_use[other] > i}
        if alive == {node}:
            found.append(node)
    return found


def parameter_names(module: fx.GraphModule, node: fx.Node) -> set[str]:
    """The parameters that a node itself holds."""
    if node.op == "call_module":
        target = str(node.target)
        layer = module.get_submodule(target)
        return {f"{target}.{name}" for name, _ in layer.named_parameters()}
    if node.op == "get_attr":
        names = {name for name, _ in module.named_parameters()}
        return {str(node.target)} & names
    return set()


def independent_copy(module: fx.GraphModule) -> fx.GraphModule:
    """A copy that shares no tensor, and whose memory is free as soon as nobody holds it.

    A graph refers back to its module, so that a module with gigabytes of weights, gradients and
    optimizer state would wait for the cycle collector, which counts objects and not bytes. Without
    that reference the graph still runs, but cannot be edited.
    """
    copied = copy.deepcopy(module)
    copied.graph.owning_module = None
    return copied


def _all_passes(module: fx.GraphModule, head: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    """Whether no pixels get from before a node to the output but through it."""
    nodes = list(module.graph.nodes)
    behind = set(nodes[nodes.index(head) + 1 :])
    return not any(
        facts[source].pixels and source is not head and source not in behind
        for node in behind
        for source in node.all_input_nodes
    )


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps each node's value and FLOPs."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module)
        self.counter = counter
        self.values: dict[str, Any] = {}
        self.flops: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        value = super().run_node(n)
        self.values[n.name] = value
        self.flops[n.name] = self.counter.get_total_flops() - before
        return value


def _examine(module: fx.GraphModule, image_size: int) -> dict[fx.Node, NodeFacts]:
    """Facts of every node, from two runs with different batch sizes and no real arithmetic.

    What it takes is imported here: SymPy, Triton and more, which no process of trials needs.
    """
    from torch.utils.flop_counter import FlopCounterMode

    defer()
    meta = _without_memory(module)
    recorders = []
    for batch in _BATCHES:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            recorder = _Recorder(meta, counter)
            try:
                recorder.run(torch.empty(batch, 3, image_size, image_size, device="meta"))
            except Exception as error:
                reason = str(error).partition("\n")[0]  # without the interpreter's own trace
                raise BackboneError(
                    f"the backbone refuses RGB images of {image_size} x {image_size} pixels: "
                    f"{reason}. Try another image_size"
                ) from error
            recorders.append(recorder)
    facts: dict[fx.Node, NodeFacts] = {}
    for node in module.graph.nodes:
        results = tuple(recorder.values[node.name] for recorder in recorders)
        from_pixels = any(facts[source].pixels for source in node.all_input_nodes)
        facts[node] = NodeFacts(
            pixels=node.op == "placeholder" or (from_pixels and _holds_tensor(results[0])),
            results=(results[0], results[1]),
            # Of one image more: what does not depend on the batch is no image's cost.
            flops=recorders[1].flops[node.name] - recorders[0].flops[node.name],
        )
    return facts


def _without_memory(module: fx.GraphModule) -> fx.GraphModule:
    """A copy on the meta device, made without copying what may be gigabytes."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        for parameter in module.parameters()
    }
    copied = copy.deepcopy(module, memo).to("meta")
    copied.eval()
    return copied


def _holds_tensor(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensor(item) for item in value.values())
    return isinstance(value, torch.Tensor)


def _is_classifier(module: fx.GraphModule, node: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    if node.op != "call_module" or not facts[node].pixels:
        return False
    layer = module.get_submodule(str(node.target))
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)
