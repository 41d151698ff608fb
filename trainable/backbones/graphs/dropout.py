"""Dropout rates in graphs of operators, as torch.export makes them.

The operators name their arguments, so the rates are found in any network. Attention has a rate
other than 0 in train mode alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from trainable.backbones.graphs.comparing import is_dropout
from trainable.backbones.graphs.tracing import follows_mode

_RATE_OF_ATTENTION = "dropout_p"


def has_dropout(module: fx.GraphModule) -> bool:
    """Return whether a graph has dropout in train mode, even at a rate of 0."""
    return any(True for _ in _rates(module.graph))


def set_dropout(module: fx.GraphModule, rate: float) -> None:
    """Set the rate of every dropout of a graph in train mode.

    Args:
        module: a graph of operators; changed in place.
        rate: probability, from 0 to below 1.
    """
    for node, place in list(_rates(module.graph)):
        node.update_arg(place, rate)
    module.recompile()


def _rates(graph: fx.Graph) -> Iterator[tuple[fx.Node, int]]:
    """Yield nodes with the index of the argument that is their rate in train mode."""
    for node in graph.nodes:
        if is_dropout(node) or (follows_mode(node) and _is_rate_of_attention(node)):
            yield node, 1


def _is_rate_of_attention(node: fx.Node) -> bool:
    return any(_named_arguments(user).get(_RATE_OF_ATTENTION) is node for user in node.users)


def _named_arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator by name; none if the target is not an operator."""
    schema = getattr(node.target, "_schema", None)
    names = [] if schema is None else [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | node.kwargs
