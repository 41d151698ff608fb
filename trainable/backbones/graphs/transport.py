"""Serialisation of traced backbones for processes that neither build nor trace them.

Functions and classes travel by name and are imported where they arrive, so that nothing is but
what the graph itself consists of. Weights stay behind where both sides have them anyway.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from trainable.backbones.graphs.graph import NodeFacts, TracedBackbone

Arrays = Mapping[str, npt.NDArray[np.generic]]

_KEPT_META = ("is_wrapped",)
"""What torch.fx notes of calls of functions that `torch.fx.wrap` was applied to."""


def to_bytes(traced: TracedBackbone, arrays: Arrays) -> bytes | None:
    """A backbone for `from_bytes`; None where it has parts that no other process could import.

    Args:
        traced: with its weights.
        arrays: the weights that the other process has; what differs from them travels too, but for
            the head, whose values nobody needs.
    """
    sink = io.BytesIO()
    try:
        _Pickler(sink, traced, arrays).dump(_parcel(traced))
        arrived = _graph(_Unpickler(io.BytesIO(sink.getvalue()), None).load())
    except Exception:  # modules of others refuse in ways of their own; there is no list of them
        return None
    # A graph may also take its arguments apart, which is no part of its nodes.
    return sink.getvalue() if _source(arrived) == _source(traced.module.graph) else None


def from_bytes(content: bytes, arrays: Arrays) -> TracedBackbone:
    """The backbone that `to_bytes` made content of, in eval mode.

    Args:
        content: from a process that may be trusted: it is unpickled.
        arrays: weights, as they were given there; copied, never written to.
    """
    parcel: _Parcel = _Unpickler(io.BytesIO(content), arrays).load()
    module = fx.GraphModule(nn.Module(), fx.Graph(), parcel.name)
    _hand_over(parcel.root, module)
    module.graph = _graph(parcel)
    module.eval()
    nodes = {node.name: node for node in module.graph.nodes}
    return TracedBackbone(
        module=module,
        facts={nodes[name]: facts for name, facts in parcel.facts.items()},
        head=nodes[parcel.head],
        version=parcel.version,
    )


@dataclass(frozen=True)
class _Reference:
    """Stands for a node among the arguments of another."""

    name: str


@dataclass(frozen=True)
class _Annotation:
    """Stands for a class that is named and never used."""

    module: str
    name: str


@dataclass(frozen=True, kw_only=True)
class _Node:
    """Arguments of `fx.Graph.create_node` for one node.

    Attributes:
        meta: those of its notes that decide what code it stands for.
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
        head: name of a node.
        version: as there.
    """

    name: str
    root: nn.Module
    nodes: list[_Node]
    facts: dict[str, NodeFacts]
    head: str
    version: str | None


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
        head=traced.head.name,
        version=traced.version,
    )


def _annotation(given: Any) -> Any:
    """Annotations of a node; foreign classes are kept by name, because only the name is used."""
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
    """The code that a graph stands for, down to the names of its nodes."""
    return graph.python_code("self").src


def _hand_over(source: nn.Module, target: nn.Module) -> None:
    """Register in one module what another one holds itself."""
    for name, child in source.named_modules(remove_duplicate=False):
        if name and "." not in name:
            target.add_module(name, child)
    for name, parameter in source.named_parameters(recurse=False):
        target.register_parameter(name, parameter)
    for name, buffer in source.named_buffers(recurse=False):
        target.register_buffer(name, buffer)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A tensor whose values are in the arrays, or that needs none.

    Attributes:
        name: of the parameter or buffer.
        shape, dtype: of it.
        requires_grad: of a parameter; None for a buffer.
        has_values: whether the arrays have them; zeros otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool | None
    has_values: bool


@dataclass(frozen=True)
class _Function:
    """A function that is found under another name than the one that it gives itself."""

    module: str
    name: str


class _Pickler(pickle.Pickler):
    """Leaves out weights that the other side has, and names functions as they are found there."""

    def __init__(self, sink: io.BytesIO, traced: TracedBackbone, arrays: Arrays) -> None:
        super().__init__(sink)
        module, head = traced.module, f"{traced.head.target}."
        self._stored: dict[int, _Stored] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            in_head = name.startswith(head)
            if in_head or _holds(arrays, name, tensor):
                self._stored[id(tensor)] = _Stored(
                    name=name,
                    shape=tuple(tensor.shape),
                    dtype=tensor.dtype,
                    requires_grad=tensor.requires_grad
                    if isinstance(tensor, nn.Parameter)
                    else None,
                    has_values=not in_head,
                )

    def persistent_id(self, obj: Any) -> _Stored | _Function | None:
        """Persistent id of an object; None to pickle it as usual."""
        if isinstance(obj, Tensor):
            return self._stored.get(id(obj))
        if isinstance(obj, FunctionType) and "<locals>" in obj.__qualname__:
            function = _Function(obj.__module__, obj.__name__)
            if getattr(sys.modules.get(function.module), function.name, None) is obj:
                return function
        return None


def _holds(arrays: Arrays, name: str, tensor: Tensor) -> bool:
    """Whether the arrays have a tensor's values under its name."""
    if name not in arrays or arrays[name].shape != tuple(tensor.shape):
        return False
    return torch.equal(torch.tensor(arrays[name]).to(tensor.dtype), tensor)


class _Unpickler(pickle.Unpickler):
    """Puts in what the other side left out; parameters that were one stay one.

    Args:
        source: what was pickled.
        arrays: weights; None for tensors without memory.
    """

    def __init__(self, source: io.BytesIO, arrays: Arrays | None) -> None:
        super().__init__(source)
        self._arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def persistent_load(self, pid: _Stored | _Function) -> Any:
        """The object that something stands for."""
        if isinstance(pid, _Function):
            return getattr(importlib.import_module(pid.module), pid.name)
        if pid.name not in self._tensors:
            self._tensors[pid.name] = self._made(pid)
        return self._tensors[pid.name]

    def _made(self, pid: _Stored) -> Tensor:
        if self._arrays is None:
            tensor = torch.empty(pid.shape, dtype=pid.dtype, device="meta")
        elif pid.has_values:
            tensor = torch.tensor(self._arrays[pid.name]).to(pid.dtype)
        else:
            tensor = torch.zeros(pid.shape, dtype=pid.dtype)
        if pid.requires_grad is None:
            return tensor
        return nn.Parameter(tensor, requires_grad=pid.requires_grad)
