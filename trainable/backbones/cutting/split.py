"""The split of a backbone at a boundary: a frozen prefix, and a suffix with a new head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from trainable.backbones.cutting.boundaries import Boundary, boundaries, is_idle
from trainable.backbones.graphs.facts import content_input
from trainable.backbones.graphs.graph import (
    TracedBackbone,
    independent_copy,
    lone_carriers,
    parameter_names,
)
from trainable.errors import BackboneError


@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """The two halves of a backbone.

    Attributes:
        traced: the whole.
        suffix: activations, and the side inputs of the backbone, -> logits (N, num_classes); shares
            nothing with the prefix.
        head: name of the new classifier within the suffix.
        frozen: number of boundaries inside the prefix.
        boundary: where the cut lies; None where nothing is frozen.
        bare_logits: whether the suffix goes without something that the backbone computes behind
            its head; see `split`.
        on_both_sides: names of the backbone's parameters that prefix and suffix both use, as where
            layers share them. The suffix trains its own copy under the same name; the prefix keeps
            what was pretrained.
    """

    traced: TracedBackbone
    suffix: fx.GraphModule
    head: str
    frozen: int
    boundary: Boundary | None
    bare_logits: bool
    on_both_sides: tuple[str, ...]

    @cached_property
    def prefix(self) -> FrozenPrefix:
        """Inputs -> activations (N, *shape); made when it is first asked for."""
        return frozen_between(self.traced, None, self.boundary)


class FrozenPrefix(nn.Module):
    """A module that never trains: no gradients, and always in eval mode."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module: fx.GraphModule = module.requires_grad_(requires_grad=False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenPrefix:
        """Stay in eval mode."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, content: torch.Tensor, *side: torch.Tensor) -> torch.Tensor:
        """Activations at the cut, without a graph for gradients."""
        activations: torch.Tensor = self.module(content, *side)
        return activations


def split(traced: TracedBackbone, *, frozen: int, num_classes: int) -> SplitBackbone:
    """Cut after the `frozen`-th boundary and give the suffix a new head of `num_classes` outputs.

    The head's weights and biases are zero; everything before it is the backbone's. Operations
    behind the head that change the shape of logits, such as pooling, stay. Those that keep the
    shape are removed: an activation there belongs to the loss of the pretraining, and would bound
    the new logits, as a ReLU would.

    Args:
        traced: the backbone; it is not changed, and the prefix shares its parameters.
        frozen: number of boundaries in the prefix; 0 freezes nothing.
        num_classes: number of outputs of the new head.
    """
    boundary = boundaries(traced)[frozen - 1] if frozen else None
    cut = _node_of(traced, boundary)
    suffix_graph = _SuffixGraph(traced, cut)
    passed_over = _passed_over(traced)
    for node in _behind(traced, cut):
        if node in passed_over:
            suffix_graph.copied[node] = suffix_graph.copied[passed_over[node]]
        elif traced.facts[node].content or node.op == "output":
            suffix_graph.copy(node)
    suffix = independent_copy(_module_of(traced.module, suffix_graph.graph))
    on_both_sides = _on_both_sides(traced, cut, suffix)
    head = str(traced.head.target)
    old = suffix.get_submodule(head)
    new = new_head(old, num_classes)
    suffix.set_submodule(head, new)
    return SplitBackbone(
        traced=traced,
        suffix=suffix.requires_grad_(requires_grad=True),
        head=head,
        frozen=frozen,
        boundary=boundary,
        bare_logits=not all(is_idle(traced.module, node) for node in passed_over),
        on_both_sides=on_both_sides,
    )


def _on_both_sides(traced: TracedBackbone, cut: fx.Node, suffix: fx.GraphModule) -> tuple[str, ...]:
    """Names of the suffix's parameters that what lies before the cut uses, too."""
    module = traced.module
    before, waiting, seen = set[int](), [cut], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            before |= {id(module.get_parameter(name)) for name in parameter_names(module, node)}
            waiting += node.all_input_nodes
    return tuple(
        name for name, _ in suffix.named_parameters() if id(module.get_parameter(name)) in before
    )


def _passed_over(traced: TracedBackbone) -> dict[fx.Node, fx.Node]:
    """Return nodes removed behind a new head, each with the node whose value replaces it.

    From one node that alone carries content to the next lies a part with one input and one output;
    it goes as a whole, so that `x * x.sigmoid()` does not become `x * x`. It stays where it changes
    the shape, or where something in it is learnt.
    """
    carriers = set(lone_carriers(traced))
    found = dict[fx.Node, fx.Node]()
    before, part = traced.head, list[fx.Node]()
    for node in _behind(traced, traced.head):
        if traced.facts[node].content:
            part.append(node)
        if node not in carriers:
            continue
        shape = traced.facts[node].shape
        if shape == traced.facts[before].shape is not None and not _learns(traced, before, node):
            found |= dict.fromkeys(part, before)
        before, part = node, []
    return found


def _learns(traced: TracedBackbone, before: fx.Node, after: fx.Node) -> bool:
    """Return whether a path between two nodes uses parameters."""
    waiting, seen = [after], {before}
    while waiting:
        node = waiting.pop()
        if parameter_names(traced.module, node):
            return True
        seen.add(node)
        waiting += [
            source
            for source in node.all_input_nodes
            if source not in seen and traced.facts[source].holds_tensor
        ]
    return False


def frozen_between(
    traced: TracedBackbone, start: Boundary | None, stop: Boundary | None
) -> FrozenPrefix:
    """Return the frozen module from activations at `start` to activations at `stop`.

    Args:
        traced: the backbone; its parameters are shared.
        start: where it begins; None for the content input.
        stop: where it ends; None for the content input, which is then handed on.

    Returns:
        A module that takes the side inputs of the backbone behind the activations.
    """
    first, last = _node_of(traced, start), _node_of(traced, stop)
    graph = _SuffixGraph(traced, first)
    if last is not first:
        for node in _behind(traced, first):
            if traced.facts[node].content:
                graph.copy(node)
            if node is last:
                break
    graph.graph.output(graph.copied[last])
    return FrozenPrefix(_module_of(traced.module, graph.graph))


def _node_of(traced: TracedBackbone, boundary: Boundary | None) -> fx.Node:
    """The node of a boundary; that of the content input for None."""
    if boundary is None:
        return content_input(traced.module.graph)
    nodes: list[fx.Node] = list(traced.module.graph.nodes)
    return next(node for node in nodes if node.name == boundary.node)


def _behind(traced: TracedBackbone, cut: fx.Node) -> list[fx.Node]:
    nodes: list[fx.Node] = list(traced.module.graph.nodes)
    return nodes[nodes.index(cut) + 1 :]


def _module_of(root: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """Return a module with only the nodes that its output needs, sharing parameters with `root`."""
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


class _SuffixGraph:
    """Copies nodes behind a cut, and recomputes what they need from before it."""

    def __init__(self, traced: TracedBackbone, cut: fx.Node) -> None:
        self.facts = traced.facts
        self.graph = fx.Graph()
        self.activations = self.graph.placeholder("activations")
        self.copied = {cut: self.activations}
        for node in traced.side_nodes:
            self.copied[node] = self.graph.node_copy(node)
        self.batch: fx.Node | None = None

    def copy(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self.fetch(source)
        self.copied[node] = self.graph.node_copy(node, self.copied.__getitem__)

    def fetch(self, node: fx.Node) -> fx.Node:
        """Return the copy of any node; shape-only ones are copied when first needed."""
        if node not in self.copied:
            if any(self.facts[source].content for source in node.all_input_nodes):
                if self.facts[node].content:
                    raise BackboneError(f"node {node.name} is needed on both sides of the cut")
                self.copied[node] = self.constant(node)
            else:
                self.copy(node)
        return self.copied[node]

    def constant(self, node: fx.Node) -> fx.Node:
        """Compute a shape, or a number from one, from the batch size alone."""
        first, second = self.facts[node].results
        if isinstance(first, torch.device):  # the examination's device; here it is the activations'
            return self.graph.call_function(getattr, (self.activations, "device"))
        value = self.rebuild(first, second, node.name)
        if isinstance(value, fx.Node):
            return value
        return self.graph.call_function(_identity, (value,))

    def rebuild(self, first: Any, second: Any, name: str) -> Any:
        if isinstance(first, tuple | list):
            return tuple(self.rebuild(a, b, name) for a, b in zip(first, second, strict=True))
        if first == second:
            return first
        per_example, rest = divmod(first, 2)
        if isinstance(first, int) and not rest and second == 3 * per_example:
            if self.batch is None:
                self.batch = self.graph.call_method("size", (self.activations, 0))
            if per_example == 1:
                return self.batch
            return self.graph.call_function(_multiply, (self.batch, per_example))
        raise BackboneError(
            f"node {name} depends on the batch size in a way that cannot be rebuilt"
        )


def _identity(value: Any) -> Any:
    return value


def _multiply(batch: int, per_example: int) -> int:
    return batch * per_example


def new_head(old: nn.Module, num_classes: int) -> nn.Module:
    """Return a classifier of zeros to replace `old`, always with a bias."""
    new: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, kernel_size=1)
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, num_classes)
    assert new.bias is not None
    nn.init.zeros_(new.weight)
    nn.init.zeros_(new.bias)
    return new
