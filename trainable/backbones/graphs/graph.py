"""Backbones as torch.fx graphs, with the dependence, shape and cost of every node.

The mechanism is the same for every model; nothing here is specific to a family of networks.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainable.backbones.graphs.flops import FlopCounter
from trainable.backbones.graphs.tracing import TRANSPARENT, LeafModules, traced_module
from trainable.device import one_thread
from trainable.errors import BackboneError

_BATCHES = (2, 3)
_LITTLE_WORK = 1e9
"""Parameters times pixels, over all images of an examination, up to which it computes for real: at
most 0.1 s. The meta device computes nothing, but its kernels are written in Python and import
PyTorch's compiler and SymPy, which takes ten times as long."""


@dataclass(frozen=True)
class NodeFacts:
    """Facts about the value of one graph node, for images of the traced size.

    Attributes:
        pixels: whether the value depends on pixel values, not only on shapes.
        results: the value for a batch of 2 and of 3 images; tensors are on the meta device.
        flops: floating-point operations of this node alone, per image.
        modules: modules in whose forward pass the node is, outermost first, torch's own excluded:
            path -> number of its class, equal for all instances.
    """

    pixels: bool
    results: tuple[Any, Any]
    flops: float
    modules: Mapping[str, int]

    @property
    def holds_tensor(self) -> bool:
        """Whether the value is or contains a tensor."""
        return _holds_tensor(self.results[0])

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape per image if the value is one tensor with the batch dimension first, else None."""
        first, second = self.results
        if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
            return None
        if not first.dim() or (first.shape[0], second.shape[0]) != _BATCHES:
            return None
        return tuple(first.shape[1:])


@dataclass(frozen=True, eq=False)
class TracedBackbone:
    """A backbone as a graph.

    Attributes:
        module: the graph with the backbone's own submodules and parameters; eval mode.
        facts: facts about each node of `module.graph`.
        head: node of the classifier that fine-tuning replaces; the output depends on it alone.
        version: version of the library of the leaf modules, or None; see `LeafModules`.
    """

    module: fx.GraphModule
    facts: dict[fx.Node, NodeFacts]
    head: fx.Node
    version: str | None = None


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
    module = traced_module(model, leaf_modules=leaf_modules)
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
    return TracedBackbone(module=module, facts=facts, head=heads[-1], version=leaf_modules.version)


def copied_to(device: torch.device, traced: TracedBackbone) -> TracedBackbone:
    """Return a copy of the graph on a device; on the meta device it takes no memory."""
    module = _copied_to(device, traced.module)
    twins = dict(zip(traced.module.graph.nodes, module.graph.nodes, strict=True))
    return TracedBackbone(
        module=module,
        facts={twins[node]: facts for node, facts in traced.facts.items()},
        head=twins[traced.head],
        version=traced.version,
    )


def lone_carriers(traced: TracedBackbone) -> list[fx.Node]:
    """Return nodes through which everything behind them depends on the pixels.

    After such a node no other value that depends on pixels is live. They are in the order of the
    graph, from the images to the output.
    """
    nodes = list(traced.module.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    facts = traced.facts
    last_use = {  # of pixel values; uses of a shape or a device do not keep a value alive
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


def content_shape(traced: TracedBackbone) -> tuple[int, ...]:
    """Shape of one example's content, as it was traced."""
    content = next(node for node in traced.module.graph.nodes if node.op == "placeholder")
    shape = traced.facts[content].shape
    assert shape is not None
    return shape


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


def _all_passes(module: fx.GraphModule, head: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    """Return whether every path from the pixels to the output passes through the node."""
    nodes = list(module.graph.nodes)
    behind = set(nodes[nodes.index(head) + 1 :])
    return not any(
        facts[source].pixels and source is not head and source not in behind
        for node in behind
        for source in node.all_input_nodes
    )


class _Recorder(fx.Interpreter):
    """Runs a graph and records each node's value and FLOPs."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounter) -> None:
        super().__init__(module)
        self.counter = counter
        self.values: dict[str, Any] = {}
        self.flops: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.total
        value = super().run_node(n)
        self.values[n.name] = _described(value)
        self.flops[n.name] = self.counter.total - before
        return value


def _examine(module: fx.GraphModule, image_size: int) -> dict[fx.Node, NodeFacts]:
    """Return facts about every node, from two runs with different batch sizes."""
    device = cheapest_device(module, image_size)
    copied = _copied_to(device, module)
    recorders = []
    for batch in _BATCHES:
        with torch.no_grad(), _in_operations(), FlopCounter() as counter:
            recorder = _Recorder(copied, counter)
            try:
                recorder.run(torch.zeros(batch, 3, image_size, image_size, device=device))
            except Exception as error:
                reason = str(error).partition("\n")[0]  # without the interpreter's own trace
                raise BackboneError(
                    f"the backbone refuses RGB images of {image_size} x {image_size} pixels: "
                    f"{reason}. Try another image_size"
                ) from error
            recorders.append(recorder)
    facts: dict[fx.Node, NodeFacts] = {}
    kinds: dict[type, int] = {}
    for node in module.graph.nodes:
        results = tuple(recorder.values[node.name] for recorder in recorders)
        from_pixels = any(facts[source].pixels for source in node.all_input_nodes)
        facts[node] = NodeFacts(
            pixels=node.op == "placeholder" or (from_pixels and _holds_tensor(results[0])),
            results=(results[0], results[1]),
            # The cost of one more image; costs that do not depend on the batch size cancel.
            flops=recorders[1].flops[node.name] - recorders[0].flops[node.name],
            modules={
                path: kinds.setdefault(kind, len(kinds))
                for path, kind in node.meta.get("nn_module_stack", {}).values()
                if not kind.__module__.startswith("torch.nn.")
            },
        )
    return facts


def cheapest_device(module: fx.GraphModule, image_size: int) -> torch.device:
    """Return the device to examine a graph on: CPU for small graphs, else meta; facts are equal."""
    parameters = list(module.parameters())
    work = sum(_BATCHES) * image_size**2 * sum(parameter.numel() for parameter in parameters)
    little = work <= _LITTLE_WORK and not any(parameter.is_meta for parameter in parameters)
    return torch.device("cpu" if little else "meta")


@contextlib.contextmanager
def _in_operations() -> Iterator[None]:
    """Compute with operations that can be counted, not with fused kernels of whole layers."""
    mha = torch.backends.mha
    mkldnn: Any = torch.backends.mkldnn  # torch's annotation of `enabled` is that of its descriptor
    attention, recurrence = mha.get_fastpath_enabled(), mkldnn.enabled
    mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        with one_thread(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(attention)
        mkldnn.enabled = recurrence


def _copied_to(device: torch.device, module: fx.GraphModule) -> fx.GraphModule:
    """Return a copy on a device, without an intermediate copy of the weights."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to(device, copy=True), requires_grad=False)
        for parameter in module.parameters()
    }
    copied = copy.deepcopy(module, memo).to(device)
    copied.eval()
    return copied


def _described(value: Any) -> Any:
    """Return a value of a graph with its tensors on the meta device."""
    return fx.node.map_aggregate(
        value,
        lambda each: (
            torch.empty_like(each, device="meta") if isinstance(each, torch.Tensor) else each
        ),
    )


def _holds_tensor(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_tensor(item) for item in value.values())
    return isinstance(value, torch.Tensor)


def _is_classifier(module: fx.GraphModule, node: fx.Node, facts: dict[fx.Node, NodeFacts]) -> bool:
    if node.op != "call_module" or not facts[node].pixels:
        return False
    return can_classify(module.get_submodule(str(node.target)))


def can_classify(layer: nn.Module) -> bool:
    """Return whether a layer can be replaced as a classification head."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)
