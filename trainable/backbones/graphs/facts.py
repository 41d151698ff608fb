"""Facts about the nodes of a graph, from running it on batches of two sizes."""

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
from trainable.backbones.graphs.inputs import GraphInputs
from trainable.device import one_thread
from trainable.errors import BackboneError

_BATCHES = (2, 3)
_LITTLE_WORK = 1e9
"""Parameters times positions, over all examples of an examination, up to which it computes for
real: a tenth of a second at most. The meta device computes nothing, but its kernels are written in
Python and import PyTorch's compiler and SymPy, which takes ten times as long."""


@dataclass(frozen=True)
class NodeFacts:
    """Facts about the value of one graph node, for examples of the examined size.

    Attributes:
        content: whether the value depends on the content input's values, and not on shapes or
            side inputs alone.
        results: the value for a batch of 2 and of 3 examples; tensors are on the meta device.
        flops: floating-point operations of this node alone, per example.
        modules: whose forward pass the node belongs to, outermost first and torch's own left out:
            the path of each, and a number that it shares with the others of its class.
    """

    content: bool
    results: tuple[Any, Any]
    flops: float
    modules: Mapping[str, int]

    @property
    def holds_tensor(self) -> bool:
        """Whether the value is a tensor or has one in it."""
        return _holds_tensor(self.results[0])

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape per example where the value is one tensor with the batch first, else None."""
        first, second = self.results
        if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)):
            return None
        if not first.dim() or (first.shape[0], second.shape[0]) != _BATCHES:
            return None
        return tuple(first.shape[1:])


def examine(
    module: fx.GraphModule,
    inputs: GraphInputs,
    *,
    modules: Mapping[fx.Node, Mapping[str, int]],
) -> dict[fx.Node, NodeFacts]:
    """Facts of every node of a graph.

    Args:
        module: its first placeholder is the content input; in eval mode.
        inputs: what it takes.
        modules: of every node; see `NodeFacts`.

    Raises:
        BackboneError: the graph refuses such inputs.
    """
    device = cheapest_device(module, inputs)
    copied = module_on(device, module)
    recorders = []
    for batch in _BATCHES:
        with torch.no_grad(), _in_operations(), FlopCounter() as counter:
            recorder = _Recorder(copied, counter)
            try:
                recorder.run(*inputs.make(batch, device=device))
            except Exception as error:
                reason = str(error).partition("\n")[0]  # without the interpreter's own trace
                raise BackboneError(
                    f"the backbone refuses {inputs}: {reason}. Try another {inputs.setting}"
                ) from error
            recorders.append(recorder)
    facts: dict[fx.Node, NodeFacts] = {}
    first = content_input(module.graph)
    for node in module.graph.nodes:
        results = tuple(recorder.values[node.name] for recorder in recorders)
        from_content = any(facts[source].content for source in node.all_input_nodes)
        facts[node] = NodeFacts(
            content=node is first or (from_content and _holds_tensor(results[0])),
            results=(results[0], results[1]),
            # Of one example more: what does not depend on the batch is no example's cost.
            flops=recorders[1].flops[node.name] - recorders[0].flops[node.name],
            modules=modules[node],
        )
    return facts


def content_input(graph: fx.Graph) -> fx.Node:
    """The placeholder of the content input."""
    found: fx.Node = next(node for node in graph.nodes if node.op == "placeholder")
    return found


def modules_of(graph: fx.Graph) -> dict[fx.Node, dict[str, int]]:
    """For every node of a freshly traced graph the modules that it belongs to; see `NodeFacts`."""
    kinds: dict[type | str, int] = {}
    return {
        node: {
            path: kinds.setdefault(kind, len(kinds))
            for path, kind in node.meta.get("nn_module_stack", {}).values()
            if not _is_torchs(kind)
        }
        for node in graph.nodes
    }


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


def _is_torchs(kind: type | str) -> bool:
    """Whether a class is one of torch's layers; torch.export knows classes by their names."""
    return (kind if isinstance(kind, str) else kind.__module__).startswith("torch.nn.")


def cheapest_device(module: fx.GraphModule, inputs: GraphInputs) -> torch.device:
    """Device on which a graph is examined: CPU for small graphs, else meta; facts are equal."""
    parameters = list(module.parameters())
    work = sum(_BATCHES) * inputs.positions * sum(parameter.numel() for parameter in parameters)
    little = work <= _LITTLE_WORK and not any(parameter.is_meta for parameter in parameters)
    return torch.device("cpu" if little else "meta")


def module_on(device: torch.device, module: fx.GraphModule) -> fx.GraphModule:
    """A copy on a device, made without copying what may be gigabytes to the meta device."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to(device, copy=True), requires_grad=False)
        for parameter in module.parameters()
    }
    copied = copy.deepcopy(module, memo).to(device)
    copied.eval()
    return copied


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps each node's value and FLOPs."""

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


@contextlib.contextmanager
def _in_operations() -> Iterator[None]:
    """Compute in operations that can be counted, and not with a kernel for a whole layer."""
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


def _described(value: Any) -> Any:
    """A value of a graph, its tensors without what they hold."""
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
