"""Comparison of the graphs that a network has in train and in eval mode."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from torch import fx

from trainable.errors import BackboneError

if TYPE_CHECKING:
    from trainable.backbones.graphs.graph import TracedBackbone

_CONSTANTS = (bool, int, float, str, type(None))
_TWO_GRAPHS = (
    "the backbone computes different graphs in train and eval mode, so that it cannot be cut; "
    "switch auxiliary outputs off, or move the difference into a leaf module"
)
_SAME_VALUES = "aten.contiguous."
_DROPOUT = ("aten.dropout.", "aten.native_dropout.")
"""What operators are called that are (input, p, train), and pass their input on in eval mode."""


def differing_constants(
    graph: fx.Graph, other: fx.Graph
) -> list[tuple[fx.Node, int | str, Any, Any]]:
    """Constants in which two graphs differ: a node of the first, the place, and both values.

    PyTorch's operators that pass their input on in eval mode, or in both, count for nothing: a
    graph of operators has some of them in one mode only, and in eval mode what uses the input of
    dropout may as well use its output.

    Raises:
        BackboneError: the graphs differ in more than constants.
    """
    nodes, others = _computing(graph), _computing(other)
    if [(n.op, n.target) for n in nodes] != [(n.op, n.target) for n in others]:
        raise BackboneError(_TWO_GRAPHS)
    attributes = {node.target: node for node in reversed(graph.find_nodes(op="get_attr"))}
    twins = dict(zip(others, nodes, strict=True))

    def own(node: fx.Node) -> Any:
        node = _computed(node)
        return attributes[node.target] if node.op == "get_attr" else node

    def twin(node: fx.Node) -> Any:
        node = _computed(node)
        return attributes.get(node.target) if node.op == "get_attr" else twins[node]

    found: list[tuple[fx.Node, int | str, Any, Any]] = []
    for node, its in zip(nodes, others, strict=True):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), own)
        other_args, other_kwargs = fx.node.map_arg((its.args, its.kwargs), twin)
        args, other_args = _equally_many(node, args, other_args)
        if len(args) != len(other_args) or kwargs.keys() != other_kwargs.keys():
            raise BackboneError(_TWO_GRAPHS)
        places: list[tuple[int | str, Any, Any]]
        places = [(i, args[i], other_args[i]) for i in range(len(args))]
        places += [(key, kwargs[key], other_kwargs[key]) for key in kwargs]
        for place, value, other_value in places:
            if value == other_value:
                continue
            if not isinstance(value, _CONSTANTS) or not isinstance(other_value, _CONSTANTS):
                raise BackboneError(_TWO_GRAPHS)
            found.append((node, place, value, other_value))
    return found


def common_nodes(traced: TracedBackbone, other: TracedBackbone) -> set[str]:
    """Names of the nodes that two graphs of one backbone compute alike, whatever lies behind them.

    Args:
        traced: a graph with the backbone's weights.
        other: another one with the same weights.
    """
    if traced.version != other.version:  # some tensors differ that are no weights
        return set()
    numbers: dict[str, int] = {}
    own, its = (_numbered(one.module.graph, numbers) for one in (traced, other))
    return {name for name, number in own.items() if its.get(name) == number}


def _numbered(graph: fx.Graph, numbers: dict[str, int]) -> dict[str, int]:
    """By the name of each node a number for what it computes, whatever its sources are called.

    Args:
        graph: any.
        numbers: by computations; new ones are added.
    """
    found: dict[fx.Node, int] = {}

    def numbered(source: fx.Node) -> Any:
        return "node", found[source]

    for node in graph.nodes:
        given = fx.node.map_arg((node.args, node.kwargs), numbered)
        computation = f"{node.op} {node.target!r} {given!r}"
        found[node] = numbers.setdefault(computation, len(numbers))
    return {node.name: number for node, number in found.items()}


def is_dropout(node: fx.Node) -> bool:
    """Whether a node is one of PyTorch's operators (input, p, train) that drop values at random."""
    return str(node.target).startswith(_DROPOUT)


def _equally_many(
    node: fx.Node, args: tuple[Any, ...], others: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments of two calls of an operator; to the fewer ones its defaults are added."""
    most = max(len(args), len(others))
    rest = defaults(node)
    return (*args, *rest[len(args) : most]), (*others, *rest[len(others) : most])


def defaults(node: fx.Node) -> list[Any]:
    """Default of every argument that an operator takes; None stands for none, too."""
    schema = getattr(node.target, "_schema", None)
    return [] if schema is None else [argument.default_value for argument in schema.arguments]


def _computing(graph: fx.Graph) -> list[fx.Node]:
    """Nodes of a graph without tensors that it holds and those that pass their input on."""
    return [node for node in graph.nodes if node.op != "get_attr" and _computed(node) is node]


def _computed(node: fx.Node) -> fx.Node:
    """The node whose value another one passes on, at least in eval mode; or itself."""
    while True:
        of_dropout = node.target is operator.getitem and is_dropout(node.all_input_nodes[0])
        same_values = str(node.target).startswith(_SAME_VALUES)
        if not (of_dropout or same_values or is_dropout(node)):
            return node
        node = node.all_input_nodes[0]
