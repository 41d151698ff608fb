"""Serialization of traced backbones for processes that neither build nor trace them.

Functions and classes are pickled by name and imported by the receiver, so that only what the graph
uses is imported. Weights that the receiver has anyway are left out.
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
"""Metadata of calls of functions that `torch.fx.wrap` was applied to."""


def to_bytes(traced: TracedBackbone, arrays: Arrays) -> bytes | None:
    """Serialize a backbone for `from_bytes`; None if another process could not import a part of it.

    Args:
        traced: the backbone with its weights.
        arrays: the weights that the receiver has. Tensors that differ from them are included,
            except the head's, whose values are not needed.
    """
    sink = io.BytesIO()
    try:
        _Pickler(sink, traced, arrays).dump(_parcel(traced))
        arrived = _graph(_Unpickler(io.BytesIO(sink.getvalue()), None).load())
    except Exception:  # third-party modules raise arbitrary errors
        return None
    # A graph may also unpack its arguments, which its nodes do not show.
    return sink.getvalue() if _source(arrived) == _source(traced.module.graph) else None


def from_bytes(content: bytes, arrays: Arrays) -> TracedBackbone:
    """Return the backbone that `to_bytes` serialized, in eval mode.

    Args:
        content: bytes from a trusted process, since they are unpickled.
        arrays: the weights that were given to `to_bytes`; copied, never written to.
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
        name: name of the module's class.
        root: module with the layers and tensors, under the same names and in the same order.
        nodes: nodes of the graph, in order.
        facts: facts by name of the node.
        head: name of the head's node.
        version: see `TracedBackbone`.
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
        target.register_buffer(name, buffer)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A tensor whose values are in the arrays or not needed.

    Attributes:
        name: name of the parameter or buffer.
        shape, dtype: its shape and type.
        requires_grad: flag of a parameter; None for a buffer.
        has_values: whether the arrays have its values; zeros otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool | None
    has_values: bool


@dataclass(frozen=True)
class _Function:
    """A function that its module has under another name than its `__qualname__`."""

    module: str
    name: str


class _Pickler(pickle.Pickler):
    """Leaves out weights that the receiver has, and pickles functions by their names there."""

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
        """Return the persistent id of an object; None to pickle it as usual."""
        if isinstance(obj, Tensor):
            return self._stored.get(id(obj))
        if isinstance(obj, FunctionType) and "<locals>" in obj.__qualname__:
            function = _Function(obj.__module__, obj.__name__)
            if getattr(sys.modules.get(function.module), function.name, None) is obj:
                return function
        return None


def _holds(arrays: Arrays, name: str, tensor: Tensor) -> bool:
    """Return whether the arrays have a tensor's values under its name."""
    if name not in arrays or arrays[name].shape != tuple(tensor.shape):
        return False
    return torch.equal(torch.tensor(arrays[name]).to(tensor.dtype), tensor)


class _Unpickler(pickle.Unpickler):
    """Restores what the pickler left out; shared parameters stay shared.

    Args:
        source: the pickled bytes.
        arrays: weights; None for tensors without memory.
    """

    def __init__(self, source: io.BytesIO, arrays: Arrays | None) -> None:
        super().__init__(source)
        self._arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def persistent_load(self, pid: _Stored | _Function) -> Any:
        """Return the object of a persistent id."""
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
