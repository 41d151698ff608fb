"""Cutting a backbone at a boundary: a frozen prefix, and a suffix with a new head to train.

A boundary is a node of the graph after which nothing else that depends on pixel values is alive:
one tensor carries everything that the rest needs. What the rest needs of shapes alone is rebuilt
inside the suffix. Of all such nodes those are worth cutting at that the next arithmetic follows
directly: where the only consumer is cheap (an activation, a normalisation, a pooling, a reshape:
anything without a matrix product or convolution), the cut comes after it, so that a block is never
left between its convolution and its activation and the smaller tensor is the one that is kept.
Dropout and stochastic depth stay with the suffix, where they can be random.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn

from trainable.errors import BackboneError, SpecError
from trainable.graphs import NodeFacts, TracedBackbone

_RANDOM = ("dropout", "stochasticdepth", "stochastic_depth", "droppath", "drop_path")


@dataclass(frozen=True)
class Boundary:
    """One place to cut.

    Attributes:
        node: name of the graph node whose value is handed over.
        shape: of that value, per image.
        params: number of parameters before the cut.
        flops: of the forward pass before the cut, per image.
    """

    node: str
    shape: tuple[int, ...]
    params: int
    flops: float


@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """The two halves of a backbone.

    Attributes:
        prefix: images (N, 3, S, S) -> activations (N, *shape); frozen, always in eval mode.
        suffix: activations -> logits (N, num_classes); shares nothing with the prefix.
        head: name of the new classifier within the suffix.
        frozen: number of boundaries inside the prefix.
        boundary: where the cut lies; None where nothing is frozen.
    """

    prefix: FrozenPrefix
    suffix: fx.GraphModule
    head: str
    frozen: int
    boundary: Boundary | None


class FrozenPrefix(nn.Module):
    """A module that never trains: no gradients, and eval mode whatever `train()` is called on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(requires_grad=False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenPrefix:
        """Stay in eval mode."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Activations at the cut, without a graph for gradients."""
        activations: torch.Tensor = self.module(images)
        return activations


def boundaries(traced: TracedBackbone) -> list[Boundary]:
    """The places worth cutting at, shallowest first; the last lies right before the head."""
    nodes = list(traced.module.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    last_use = {node: max((position[u] for u in node.users), default=-1) for node in nodes}
    head = position[traced.head]
    sizes = {name: parameter.numel() for name, parameter in traced.module.named_parameters()}
    found, alive, params, flops = [], set[fx.Node](), set[str](), 0.0
    for i, node in enumerate(nodes[:head]):
        fact = traced.facts[node]
        flops += fact.flops
        params |= _parameter_names(traced.module, node)
        if fact.pixels:
            alive.add(node)
        alive = {other for other in alive if last_use[other] > i}
        if alive == {node} and node.op != "placeholder" and _worth_cutting(traced, node):
            shape = fact.shape
            if shape is not None:
                count = sum(sizes[name] for name in params)
                found.append(Boundary(node=node.name, shape=shape, params=count, flops=flops))
    if not found:
        raise BackboneError("the backbone has no place to cut before its head")
    return found


def frozen_boundaries(
    num_boundaries: int, *, depth: float | None = None, blocks: int | None = None
) -> int:
    """How many boundaries lie in the prefix.

    Args:
        num_boundaries: of the backbone.
        depth: share of them, 0..1, rounded to the nearest, ties to the shallower; or None.
        blocks: their number, -1 for all; or None.

    Raises:
        SpecError: more blocks than the backbone has.
    """
    if depth is not None:
        # The shortest decimal is what was written: 0.7 of 5 is 3.5, a tie, in any arithmetic.
        return math.ceil(Fraction(repr(float(depth))) * num_boundaries - Fraction(1, 2))
    assert blocks is not None
    if blocks > num_boundaries:
        raise SpecError(
            f"frozen_blocks: got {blocks}; this backbone has {num_boundaries} boundaries"
        )
    return num_boundaries if blocks == -1 else blocks


def parameter_depths(traced: TracedBackbone) -> dict[str, int]:
    """For every parameter its distance from the head, in boundaries: 0 behind the last one."""
    cuts = {boundary.node for boundary in boundaries(traced)}
    remaining = len(cuts)
    depths: dict[str, int] = {}
    for node in traced.module.graph.nodes:
        for name in _parameter_names(traced.module, node):
            depths.setdefault(name, remaining)
        remaining -= node.name in cuts
    return depths


def split(traced: TracedBackbone, *, frozen: int, num_classes: int) -> SplitBackbone:
    """Cut after the `frozen`-th boundary and give the suffix a new head of `num_classes` outputs.

    The head's weights and biases are zero; everything else is the backbone's own.

    Args:
        traced: the backbone; it is not changed, and the prefix shares its parameters.
        frozen: number of boundaries in the prefix; 0 freezes nothing.
        num_classes: outputs of the new head.
    """
    boundary = boundaries(traced)[frozen - 1] if frozen else None
    nodes = list(traced.module.graph.nodes)
    cut = next(
        i
        for i, node in enumerate(nodes)
        if (node.name == boundary.node if boundary else node.op == "placeholder")
    )
    prefix_graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in nodes[: cut + 1]:
        copied[node] = prefix_graph.node_copy(node, copied.__getitem__)
    prefix_graph.output(copied[nodes[cut]])

    suffix_graph = _SuffixGraph(traced.facts, nodes[cut])
    for node in nodes[cut + 1 :]:
        if traced.facts[node].pixels or node.op == "output":
            suffix_graph.copy(node)
    suffix = copy.deepcopy(_module_of(traced.module, suffix_graph.graph))
    head = str(traced.head.target)
    old = suffix.get_submodule(head)
    new = _new_head(old, num_classes)
    suffix.set_submodule(head, new)
    return SplitBackbone(
        prefix=FrozenPrefix(_module_of(traced.module, prefix_graph)),
        suffix=suffix.requires_grad_(requires_grad=True),
        head=head,
        frozen=frozen,
        boundary=boundary,
    )


def _module_of(root: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """A module with just the nodes that its output needs, sharing its parameters with `root`."""
    module = fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


class _SuffixGraph:
    """Copies nodes behind a cut, and rebuilds what they need from before it."""

    def __init__(self, facts: dict[fx.Node, NodeFacts], cut: fx.Node) -> None:
        self.facts = facts
        self.graph = fx.Graph()
        self.activations = self.graph.placeholder("activations")
        self.copied = {cut: self.activations}
        self.batch: fx.Node | None = None

    def copy(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self.fetch(source)
        self.copied[node] = self.graph.node_copy(node, self.copied.__getitem__)

    def fetch(self, node: fx.Node) -> fx.Node:
        """The copy of a node that lies anywhere; shape-only ones are made when first needed."""
        if node not in self.copied:
            if any(self.facts[source].pixels for source in node.all_input_nodes):
                if self.facts[node].pixels:
                    raise BackboneError(f"node {node.name} is needed on both sides of the cut")
                self.copied[node] = self.constant(node)
            else:
                self.copy(node)
        return self.copied[node]

    def constant(self, node: fx.Node) -> fx.Node:
        """A shape, or a number out of one, from the batch size alone."""
        first, second = self.facts[node].results
        value = self.rebuild(first, second, node.name)
        if isinstance(value, fx.Node):
            return value
        return self.graph.call_function(_identity, (value,))

    def rebuild(self, first: Any, second: Any, name: str) -> Any:
        if isinstance(first, tuple | list):
            return tuple(self.rebuild(a, b, name) for a, b in zip(first, second, strict=True))
        if first == second:
            return first
        per_image, rest = divmod(first, 2)
        if isinstance(first, int) and not rest and second == 3 * per_image:
            if self.batch is None:
                self.batch = self.graph.call_method("size", (self.activations, 0))
            if per_image == 1:
                return self.batch
            return self.graph.call_function(_multiply, (self.batch, per_image))
        raise BackboneError(
            f"node {name} depends on the batch size in a way that cannot be rebuilt"
        )


def _identity(value: Any) -> Any:
    return value


def _multiply(batch: int, per_image: int) -> int:
    return batch * per_image


def _new_head(old: nn.Module, num_classes: int) -> nn.Module:
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


def _is_random(traced: TracedBackbone, node: fx.Node) -> bool:
    if node.op == "call_module":
        name = type(traced.module.get_submodule(str(node.target))).__name__
    else:
        name = getattr(node.target, "__name__", str(node.target))
    return name.lower().startswith(_RANDOM) or name.lower().endswith("dropout")


def _worth_cutting(traced: TracedBackbone, node: fx.Node) -> bool:
    if _is_random(traced, node):
        return False
    users = [user for user in node.users if traced.facts[user].pixels]
    while len(users) == 1 and _is_random(traced, users[0]):
        users = [user for user in users[0].users if traced.facts[user].pixels]
    return len(users) != 1 or traced.facts[users[0]].flops > 0


def _parameter_names(module: fx.GraphModule, node: fx.Node) -> set[str]:
    if node.op == "call_module":
        target = str(node.target)
        layer = module.get_submodule(target)
        return {f"{target}.{name}" for name, _ in layer.named_parameters()}
    if node.op == "get_attr":
        names = {name for name, _ in module.named_parameters()}
        return {str(node.target)} & names
    return set()
