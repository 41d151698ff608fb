"""Graphs as JSON: steps of PyTorch's operators, computed without torch.fx and torch.export.

A graph is written as it is in eval mode. Reading one runs nothing but operators of PyTorch that
compute with tensors and numbers, whoever wrote it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from trainable.backbones.graphs.rebuilding import in_full_precision
from trainable.backbones.graphs.tracing import TrainingFlag, follows_mode
from trainable.errors import BackboneError

_ARITHMETIC = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "getitem"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
)
_SYMBOLIC = ("sym_max", "sym_min", "sym_float", "sym_int", "sym_not", "sym_ite", "sym_sum")


def _device(value: Tensor) -> torch.device:
    return value.device


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "device": _device,
    **{f"operator.{name}": getattr(operator, name) for name in _ARITHMETIC},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    **{f"torch.{name}": getattr(torch, name) for name in _SYMBOLIC if hasattr(torch, name)},
}
"""What a step may compute beside PyTorch's operators."""

_OPERATORS = "aten."
_REFUSED = frozenset({"from_file"})
"""Operators that reach beyond tensors."""

_CONSTANTS: Mapping[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}
"""Types of torch's constants by the key that stands for them in JSON."""

_DAMAGED = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def to_steps(module: fx.GraphModule) -> dict[str, Any]:
    """The graph of a module in eval mode, as JSON values that `StepsModule` takes.

    Tensors are not among them; `tensors` names those that are needed.

    Raises:
        BackboneError: the graph has more than PyTorch's operators.
    """
    writing = _Writing(module)
    for node in module.graph.nodes:
        writing.write(node)
    return {
        "inputs": writing.inputs,
        "tensors": writing.tensors,
        "steps": writing.steps,
        "output": writing.output,
    }


class _Writing:
    """Collects the steps of a graph node by node."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._values: dict[fx.Node, Any] = {}
        self.inputs: list[str] = []
        self.tensors: list[str] = []
        self.steps: list[dict[str, Any]] = []
        self.output: Any = None

    def write(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.inputs.append(node.name)
            self._values[node] = {"value": node.name}
        elif node.op == "get_attr":
            self._values[node] = self._tensor(str(node.target))
        elif node.op == "call_module":
            self._write_layer(node)
        elif node.op == "call_function":
            self._write_call(node)
        elif node.op == "output":
            self.output = self._written(node.args[0])
        else:
            raise BackboneError(f"node {node.name} calls a method ({node.target})")

    def _write_layer(self, node: fx.Node) -> None:
        target = str(node.target)
        layer = self._module.get_submodule(target)
        if isinstance(layer, TrainingFlag):
            self._values[node] = False
        elif type(layer) is nn.Linear and layer.bias is not None:
            given = [self._written(node.args[0])]
            given += [self._tensor(f"{target}.{name}") for name in ("weight", "bias")]
            self._step(node, "aten.linear.default", given, {})
        else:
            raise BackboneError(f"node {node.name} is a layer ({type(layer).__name__})")

    def _write_call(self, node: fx.Node) -> None:
        target: Any = node.target
        args = node.args
        if follows_mode(node):
            self._values[node] = self._written(args[2])
            return
        if target is in_full_precision:
            target, args = args[0], args[1:]
        if target is getattr and args[1] == "device":
            target, args = _device, args[:1]
        kwargs = {name: self._written(value) for name, value in node.kwargs.items()}
        self._step(node, _name_of(target), [self._written(value) for value in args], kwargs)

    def _step(self, node: fx.Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.steps.append({"name": node.name, "call": name, "args": args, "kwargs": kwargs})
        self._values[node] = {"value": node.name}

    def _tensor(self, name: str) -> dict[str, str]:
        if name not in self.tensors:
            self.tensors.append(name)
        return {"tensor": name}

    def _written(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._values[value]
        if isinstance(value, tuple | list):
            return [self._written(one) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        for key, kind in _CONSTANTS.items():
            if isinstance(value, kind):
                return {key: str(value).removeprefix("torch.")}
        raise BackboneError(f"a node has an argument of type {type(value).__name__}")


def _name_of(target: Any) -> str:
    """Name of what a node calls.

    Raises:
        BackboneError: a file cannot name it.
    """
    if isinstance(target, torch._ops.OpOverload):
        name = str(target)
        if _operator(name) is target:
            return name
    for name, function in _FUNCTIONS.items():
        if function is target:
            return name
    raise BackboneError(f"a node calls {target}")


def _operator(name: str) -> Callable[..., Any] | None:
    """What a step calls; None where no step may call it."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    kind, _, overload = name.removeprefix(_OPERATORS).partition(".")
    if not name.startswith(_OPERATORS) or kind in _REFUSED:
        return None
    found = getattr(getattr(torch.ops.aten, kind, None), overload, None)
    # No overload is named by less than its whole name.
    return found if isinstance(found, torch._ops.OpOverload) and str(found) == name else None


@dataclass(frozen=True)
class _Reference:
    """Stands for the value of an input, a step or a tensor."""

    kind: str
    name: str


@dataclass(frozen=True)
class _Step:
    """One call, and the values that no later one needs."""

    name: str
    call: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    dropped: tuple[str, ...]


class StepsModule(nn.Module):
    """A graph that `to_steps` wrote, with its tensors.

    Args:
        written: what `to_steps` returned; it may be anybody's.
        tensors: by name, those that the graph needs.

    Raises:
        BackboneError: `written` is something else, or a tensor is missing.
    """

    def __init__(self, written: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            self._inputs = [str(name) for name in written["inputs"]]
            self._buffer_of = {str(name): f"t{i}" for i, name in enumerate(written["tensors"])}
            for name, buffer in self._buffer_of.items():
                self.register_buffer(buffer, tensors[name], persistent=False)
            self._output = _read(written["output"])
            self._steps = _read_steps(written["steps"], self._output)
        except _DAMAGED as error:
            raise BackboneError(
                f"damaged: no graph of a network ({type(error).__name__}: {error})"
            ) from None

    def forward(self, *inputs: Tensor) -> Tensor:
        """The value of the graph's output for its inputs, content first."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            args, kwargs = self._filled(step.args, values), self._filled(step.kwargs, values)
            values[step.name] = step.call(*args, **kwargs)
            for name in step.dropped:
                del values[name]
        found: Tensor = self._filled(self._output, values)
        return found

    def _filled(self, value: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(value, _Reference):
            return (
                getattr(self, self._buffer_of[value.name])
                if value.kind == "tensor"
                else values[value.name]
            )
        if isinstance(value, list):
            return [self._filled(one, values) for one in value]
        if isinstance(value, dict):
            return {name: self._filled(one, values) for name, one in value.items()}
        return value


def _read_steps(written: Any, output: Any) -> list[_Step]:
    """The steps in their order."""
    found: list[_Step] = []
    needed = set(_names(output))
    for one in reversed(written):
        call = _operator(str(one["call"]))
        if call is None:
            raise ValueError(f"a step calls {one['call']!r}")
        args = [_read(value) for value in one["args"]]
        kwargs = {str(name): _read(value) for name, value in one["kwargs"].items()}
        last_used = {name for name in _names([args, *kwargs.values()]) if name not in needed}
        needed |= last_used
        dropped = last_used if one["name"] in needed else last_used | {str(one["name"])}
        found.append(_Step(str(one["name"]), call, args, kwargs, tuple(sorted(dropped))))
    return found[::-1]


def _names(value: Any) -> list[str]:
    """Names of the inputs and steps that arguments refer to."""
    if isinstance(value, _Reference):
        return [value.name] if value.kind == "value" else []
    return [name for one in value for name in _names(one)] if isinstance(value, list) else []


def _read(written: Any) -> Any:
    """The argument that JSON stands for."""
    if isinstance(written, list):
        return [_read(one) for one in written]
    if not isinstance(written, dict):
        return written
    ((key, name),) = written.items()
    if key in ("value", "tensor"):
        return _Reference(key, str(name))
    if key == "float":
        return float(name)
    found = getattr(torch, str(name))
    if not isinstance(found, _CONSTANTS[key]):
        raise TypeError(f"{name} is no {key}")
    return found
