"""The rates of dropout in graphs of operators, as torch.export makes them.

Where values are dropped is seen from the operators, whatever the network: they say which of their
arguments is the rate. Attention takes one that is not 0 in train mode alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from trainable.backbones.graphs.comparing import is_dropout
from trainable.backbones.graphs.tracing import follows_mode

_RATE_OF_ATTENTION = "dropout_p"


def has_dropout(module: fx.GraphModule) -> bool:
    """Whether a graph drops values in train mode, be it at a rate of 0."""
    return any(True for _ in _rates(module.graph))


def set_dropout(module: fx.GraphModule, rate: float) -> None:
    """Let a graph drop values in train mode at one rate, wherever it drops some.

    Args:
        module: a graph of operators; changed in place.
        rate: probability, from 0 to below 1.
    """
    for node, place in list(_rates(module.graph)):
        node.update_arg(place, rate)
    module.recompile()


def _rates(graph: fx.Graph) -> Iterator[tuple[fx.Node, int]]:
    """Nodes with the place of the argument that is their rate in train mode."""
    for node in graph.nodes:
        if is_dropout(node) or (follows_mode(node) and _is_rate_of_attention(node)):
            yield node, 1


def _is_rate_of_attention(node: fx.Node) -> bool:
    return any(_named_arguments(user).get(_RATE_OF_ATTENTION) is node for user in node.users)


def _named_arguments(node: fx.Node) -> dict[str, Any]:
    """Arguments of an operator by their names; none of what is no operator."""
    schema = getattr(node.target, "_schema", None)
    names = [] if schema is None else [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | node.kwargs
