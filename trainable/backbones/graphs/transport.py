"""Serialization of traced backbones for processes that neither build nor trace them.

Functions and classes are pickled by name and imported by the receiver, so that only what the graph
uses is imported. Weights that the receiver has anyway are left out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from trainable.backbones.graphs.facts import NodeFacts
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.graphs.inputs import GraphInputs
from trainable.backbones.graphs.pickling import Arrays, GraphPickler, GraphUnpickler

_KEPT_META = ("is_wrapped",)
"""Metadata of calls of functions that `torch.fx.wrap` was applied to."""


def to_bytes(traced: TracedBackbone, arrays: Arrays) -> bytes | None:
    """Serialize a backbone for `from_bytes`; None if another process could not import a part of it.

    Args:
        traced: the backbone with its weights.
        arrays: the weights that the receiver has. Tensors that differ from them are included,
            except those of the heads, whose values are not needed.
    """
    sink = io.BytesIO()
    try:
        pickler = GraphPickler(sink, traced.module, arrays, heads=traced.head_names)
        pickler.dump(_parcel(traced))
        arrived = _graph(GraphUnpickler(io.BytesIO(sink.getvalue()), None).load())
    except Exception:  # modules of others refuse in ways of their own; there is no list of them
        return None
    # A graph may also unpack its arguments, which its nodes do not show.
    return sink.getvalue() if _source(arrived) == _source(traced.module.graph) else None


def from_bytes(
    content: bytes, arrays: Arrays, *, known: TracedBackbone | None = None
) -> TracedBackbone:
    """The backbone that `to_bytes` made content of, in eval mode.

    Args:
        content: from a process that may be trusted: it is unpickled.
        arrays: weights, as they were given there; copied, never written to.
        known: the same backbone with the facts of another size of its inputs; its module is shared.
            None where there is none.
    """
    parcel: _Parcel = GraphUnpickler(io.BytesIO(content), None if known else arrays).load()
    module = known.module if known else _module(parcel)
    nodes = {node.name: node for node in module.graph.nodes}
    return TracedBackbone(
        module=module,
        facts={nodes[name]: facts for name, facts in parcel.facts.items()},
        heads=tuple(nodes[name] for name in parcel.heads),
        inputs=parcel.inputs,
        sizes=parcel.sizes,
        version=parcel.version,
        without_dropout=parcel.without_dropout,
        cuts=parcel.cuts,
    )


def _module(parcel: _Parcel) -> fx.GraphModule:
    module = fx.GraphModule(nn.Module(), fx.Graph(), parcel.name)
    _hand_over(parcel.root, module)
    module.graph = _graph(parcel)
    module.eval()
    return module


@dataclass(frozen=True)
class _Reference:
    """A reference to a node in the arguments of another one."""

    name: str


@dataclass(frozen=True)
class _Annotation:
    """A stand-in for a class of which only the name is used."""

    module: str
    name: str


@dataclass(frozen=True, kw_only=True)
class _Node:
    """Arguments of `fx.Graph.create_node` for one node.

    Attributes:
        meta: the part of its metadata that affects the generated code.
    """

    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    type_expr: Any
    meta: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Parcel:
    """A traced backbone without anything of torch.fx; see `TracedBackbone`.

    Attributes:
        name: of the module's class.
        root: holds the module's layers and tensors, under the same names and in the same order.
        nodes: of the graph, in order.
        facts: by name of the nodes.
        heads: names of nodes.
        inputs, sizes, version, without_dropout, cuts: as there.
    """

    name: str
    root: nn.Module
    nodes: list[_Node]
    facts: dict[str, NodeFacts]
    heads: tuple[str, ...]
    inputs: GraphInputs
    sizes: range
    version: str | None
    without_dropout: bool
    cuts: tuple[str, ...]


def _parcel(traced: TracedBackbone) -> _Parcel:
    root = nn.Module()
    _hand_over(traced.module, root)
    return _Parcel(
        name=type(traced.module).__name__,
        root=root,
        nodes=[
            _Node(
                op=node.op,
                target=node.target,
                args=fx.node.map_arg(node.args, _reference),
                kwargs=fx.node.map_arg(node.kwargs, _reference),
                name=node.name,
                type_expr=_annotation(node.type),
                meta={key: node.meta[key] for key in _KEPT_META if key in node.meta},
            )
            for node in traced.module.graph.nodes
        ],
        facts={node.name: facts for node, facts in traced.facts.items()},
        heads=tuple(head.name for head in traced.heads),
        inputs=traced.inputs,
        sizes=traced.sizes,
        version=traced.version,
        without_dropout=traced.without_dropout,
        cuts=traced.cuts,
    )


def _annotation(given: Any) -> Any:
    """Return a node's annotation; foreign classes by name, because only the name is used."""
    if isinstance(given, type) and given.__module__.partition(".")[0] not in ("builtins", "torch"):
        return _Annotation(given.__module__, given.__qualname__)
    return given


def _type(annotation: Any) -> Any:
    if isinstance(annotation, _Annotation):
        names = {"__module__": annotation.module, "__qualname__": annotation.name}
        return type(annotation.name.rpartition(".")[2], (), names)
    return annotation


def _reference(node: fx.Node) -> Any:
    return _Reference(node.name)


def _graph(parcel: _Parcel) -> fx.Graph:
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def resolve(value: Any) -> Any:
        return made[value.name] if isinstance(value, _Reference) else value

    for node in parcel.nodes:
        made[node.name] = graph.create_node(
            node.op,
            node.target,
            fx.node.map_aggregate(node.args, resolve),
            fx.node.map_aggregate(node.kwargs, resolve),
            node.name,
            _type(node.type_expr),
        )
        made[node.name].meta.update(node.meta)
    return graph


def _source(graph: fx.Graph) -> str:
    """Return the generated code of a graph, including the names of its nodes."""
    return graph.python_code("self").src


def _hand_over(source: nn.Module, target: nn.Module) -> None:
    """Register the direct children, parameters and buffers of one module in another."""
    for name, child in source.named_modules(remove_duplicate=False):
        if name and "." not in name:
            target.add_module(name, child)
    for name, parameter in source.named_parameters(recurse=False):
        target.register_parameter(name, parameter)
    for name, buffer in source.named_buffers(recurse=False):
        saved = name not in source._non_persistent_buffers_set
        target.register_buffer(name, buffer, persistent=saved)
