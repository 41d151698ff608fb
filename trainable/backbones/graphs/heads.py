"""Heads of a graph: the last layers with parameters, which fine-tuning replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx, nn

from trainable.backbones.graphs.facts import NodeFacts, parameter_names
from trainable.errors import BackboneError


def can_classify(layer: nn.Module) -> bool:
    """Return whether a layer can be replaced as a classification head."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def can_head(layer: nn.Module) -> bool:
    """Return whether a layer can be replaced as a head of a dense network."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def classifier(module: fx.GraphModule, facts: Mapping[fx.Node, NodeFacts]) -> fx.Node:
    """The last classifier, which the whole output comes from.

    Raises:
        BackboneError: there is no such classifier.
    """
    heads: list[fx.Node] = [
        node for node in module.graph.nodes if _is_classifier(module, node, facts)
    ]
    if not heads:
        raise BackboneError(
            "the backbone has no classifier to replace; allowed: a last nn.Linear or 1x1 nn.Conv2d"
        )
    if not _all_passes(module, heads[-1], facts):
        raise BackboneError(several_heads(heads[-1:]))
    return heads[-1]


def dense_heads(module: fx.GraphModule, facts: Mapping[fx.Node, NodeFacts]) -> tuple[fx.Node, ...]:
    """The last layers with parameters on all paths from the content input to the output.

    Raises:
        BackboneError: one of them is no `can_head`, or there is none.
    """
    waiting = [node for node in module.graph.nodes if node.op == "output"]
    found, seen = set[fx.Node](), set[fx.Node]()
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source in seen:
                continue
            seen.add(source)
            layer = module.get_submodule(str(source.target)) if source.op == "call_module" else None
            if layer is not None and can_head(layer) and facts[source].content:
                found.add(source)
            elif parameter_names(module, source) or source.op == "placeholder":
                raise BackboneError(
                    f"the backbone's output does not come from heads alone, but from {source.name}"
                    "; allowed: last layers that are nn.Linear or nn.Conv2d without groups"
                )
            elif facts[source].content:
                waiting.append(source)
    return tuple(node for node in module.graph.nodes if node in found)


def return_only_value(module: fx.GraphModule) -> None:
    """Let a graph that returns a mapping of one tensor return the tensor."""
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    (value,) = output.args
    if isinstance(value, dict) and len(value) == 1:
        output.args = tuple(value.values())
        module.recompile()


def several_heads(heads: Sequence[fx.Node]) -> str:
    """Message for a network whose output does not come from one head."""
    return (
        "the backbone's output does not come from its last classifier alone "
        f"({heads[-1].target}); allowed: one head. Choose a variant without auxiliary or "
        "distillation heads"
    )


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
