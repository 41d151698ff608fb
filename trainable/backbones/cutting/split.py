"""The split of a backbone at a boundary: a frozen prefix, and a suffix with a new head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from trainable.backbones.cutting.boundaries import Boundary, boundaries
from trainable.backbones.cutting.cut_points import is_idle
from trainable.backbones.cutting.part_graph import PartGraph, nodes_behind
from trainable.backbones.graphs.facts import content_input, parameter_names
from trainable.backbones.graphs.graph import TracedBackbone, independent_copy, lone_carriers


@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """The two halves of a backbone.

    Attributes:
        traced: the whole.
        suffix: activations, and the side inputs of the backbone, -> logits (N, num_classes), or a
            map of them; shares nothing with the prefix.
        heads: names of the new heads within the suffix.
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
    heads: tuple[str, ...]
    frozen: int
    boundary: Boundary | None
    bare_logits: bool
    on_both_sides: tuple[str, ...]

    @property
    def head(self) -> str:
        """Name of the only head."""
        (head,) = self.heads
        return head

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
    def forward(self, content: torch.Tensor, *side: torch.Tensor) -> Any:
        """Activations at the cut, without a graph for gradients."""
        return self.module(content, *side)


def split(traced: TracedBackbone, *, frozen: int, num_classes: int) -> SplitBackbone:
    """Cut after the `frozen`-th boundary and give the suffix new heads of `num_classes` outputs.

    Weights and biases of heads are zero; everything before them is the backbone's. Operations
    behind a single head that change the shape of logits, such as pooling, stay. Those that keep the
    shape are removed: an activation there belongs to the loss of the pretraining, and would bound
    the new logits, as a ReLU would.

    Args:
        traced: the backbone; it is not changed, and the prefix shares its parameters.
        frozen: number of boundaries in the prefix; 0 freezes nothing.
        num_classes: number of outputs of the new heads.
    """
    boundary = boundaries(traced)[frozen - 1] if frozen else None
    cut = _nodes_of(traced, boundary)
    graph = PartGraph(traced, cut)
    passed_over = _passed_over(traced) if len(traced.heads) == 1 else {}
    for node in nodes_behind(traced, cut[-1]):
        if node in passed_over:
            graph.copied[node] = graph.copied[passed_over[node]]
        elif traced.facts[node].content or node.op == "output":
            graph.copy(node)
    suffix = independent_copy(_module_of(traced.module, graph.graph))
    on_both_sides = _on_both_sides(traced, cut, suffix)
    for head in traced.head_names:
        suffix.set_submodule(head, new_head(suffix.get_submodule(head), num_classes))
    return SplitBackbone(
        traced=traced,
        suffix=suffix.requires_grad_(requires_grad=True),
        heads=traced.head_names,
        frozen=frozen,
        boundary=boundary,
        bare_logits=not all(is_idle(traced.module, node) for node in passed_over),
        on_both_sides=on_both_sides,
    )


def head_inputs(traced: TracedBackbone) -> FrozenPrefix:
    """Return the frozen module from activations at the last boundary to what each head takes.

    It takes the side inputs of the backbone behind the activations, and returns a tuple with a
    tensor for each of `head_names`; where a layer is the head of several paths, that of the first.
    """
    last = _nodes_of(traced, boundaries(traced)[-1])
    graph = PartGraph(traced, last)
    first = {str(head.target): head.all_input_nodes[0] for head in reversed(traced.heads)}
    for node in nodes_behind(traced, last[-1]):
        if traced.facts[node].content and node.op != "output":
            graph.copy(node)
    graph.graph.output(tuple(graph.copied[first[name]] for name in traced.head_names))
    return FrozenPrefix(_module_of(traced.module, graph.graph))


def _on_both_sides(
    traced: TracedBackbone, cut: Sequence[fx.Node], suffix: fx.GraphModule
) -> tuple[str, ...]:
    """Names of the suffix's parameters that what lies before the cut uses, too."""
    module = traced.module
    before, waiting, seen = set[int](), [*cut], set[fx.Node]()
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
    for node in nodes_behind(traced, traced.head):
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
    first, last = _nodes_of(traced, start), _nodes_of(traced, stop)
    graph = PartGraph(traced, first)
    if last[-1] is not first[-1]:
        for node in nodes_behind(traced, first[-1]):
            if traced.facts[node].content:
                graph.copy(node)
            if node is last[-1]:
                break
    graph.hand_over(last)
    return FrozenPrefix(_module_of(traced.module, graph.graph))


def _nodes_of(traced: TracedBackbone, boundary: Boundary | None) -> tuple[fx.Node, ...]:
    """The nodes of a boundary in the order of the graph; the content input for None."""
    if boundary is None:
        return (content_input(traced.module.graph),)
    names = {name for name, _ in boundary.tensors} or {boundary.node}
    return tuple(node for node in traced.module.graph.nodes if node.name in names)


def _module_of(root: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """Return a module with only the nodes that its output needs, sharing parameters with `root`."""
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def new_head(old: nn.Module, num_classes: int) -> nn.Module:
    """Return a head of zeros to replace `old`, always with a bias."""
    new: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(
            old.in_channels,
            num_classes,
            old.kernel_size,  # type: ignore[arg-type]  # a pair
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
        )
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, num_classes)
    assert new.bias is not None
    nn.init.zeros_(new.weight)
    nn.init.zeros_(new.bias)
    return new
