"""The graph of a part of a backbone, from one cut on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from trainable.backbones.graphs.graph import TracedBackbone
from trainable.errors import BackboneError


class PartGraph:
    """Copies nodes behind a cut, and recomputes what they need from before it.

    Args:
        traced: the backbone.
        cut: nodes whose values are handed over, as one row if there are several.
    """

    def __init__(self, traced: TracedBackbone, cut: Sequence[fx.Node]) -> None:
        self.facts = traced.facts
        self.graph = fx.Graph()
        self.activations = self.graph.placeholder("activations")
        self.copied = {cut[0]: self.activations}
        if len(cut) > 1:
            start = 0
            for node in cut:
                shape = self.facts[node].shape
                part = self.graph.call_function(_part, (self.activations, start, shape))
                self.copied[node] = part
                start += math.prod(shape or ())
        for node in traced.side_nodes:
            self.copied[node] = self.graph.node_copy(node)
        self.batch: fx.Node | None = None

    def hand_over(self, nodes: Sequence[fx.Node]) -> None:
        """Return the values of some nodes, as one row if there are several."""
        values = tuple(self.copied[node] for node in nodes)
        if len(values) > 1:
            self.graph.output(self.graph.call_function(_row, (values,)))
        else:
            self.graph.output(*values)

    def copy(self, node: fx.Node) -> None:
        """Copy a node, and whatever of its inputs has no copy yet."""
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
        """Return a value for any batch, from the values for batches of 2 and 3 examples.

        Raises:
            BackboneError: it is neither constant nor a multiple of the batch size.
        """
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


def _row(tensors: Sequence[Tensor]) -> Tensor:
    """One row per example of the values of several tensors."""
    return torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)


def _part(row: Tensor, start: int, shape: tuple[int, ...]) -> Tensor:
    """A tensor of `_row`, as a copy, since layers may work in place."""
    part = row[:, start : start + math.prod(shape)].reshape(len(row), *shape)
    return part.clone(memory_format=torch.contiguous_format)


def _identity(value: Any) -> Any:
    return value


def _multiply(batch: int, per_example: int) -> int:
    return batch * per_example


def nodes_behind(traced: TracedBackbone, cut: fx.Node) -> list[fx.Node]:
    """The nodes behind one, in the order of the graph."""
    nodes: list[fx.Node] = list(traced.module.graph.nodes)
    return nodes[nodes.index(cut) + 1 :]
