"""Pickling of what graphs consist of: weights and functions by name, operators too.

Whatever is named is imported where it arrives, and nothing else.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Arrays = Mapping[str, npt.NDArray[np.generic]]


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


@dataclass(frozen=True)
class _Operator:
    """One of PyTorch's operators, for arguments of certain types."""

    namespace: str
    name: str
    overload: str


_OVERLOAD = type(torch.ops.aten.add.Tensor)


class GraphPickler(pickle.Pickler):
    """Leaves out weights that the other side has, and names functions as they are found there.

    Args:
        sink: what is pickled goes there.
        module: holds the weights.
        arrays: weights that the other side has.
        heads: names of the layers in the module whose values nobody needs.
    """

    def __init__(
        self, sink: io.BytesIO, module: nn.Module, arrays: Arrays, *, heads: Sequence[str]
    ) -> None:
        super().__init__(sink)
        self._stored: dict[int, _Stored] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            in_head = name.startswith(tuple(f"{head}." for head in heads))
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

    def persistent_id(self, obj: Any) -> _Stored | _Function | _Operator | None:
        """Persistent id of an object; None to pickle it as usual."""
        if isinstance(obj, Tensor):
            return self._stored.get(id(obj))
        if isinstance(obj, _OVERLOAD):
            return _Operator(*str(obj).split("."))
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


class GraphUnpickler(pickle.Unpickler):
    """Puts in what the other side left out; parameters that were one stay one.

    Args:
        source: what was pickled.
        arrays: weights; None for tensors without memory.
    """

    def __init__(self, source: io.BytesIO, arrays: Arrays | None) -> None:
        super().__init__(source)
        self._arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def persistent_load(self, pid: _Stored | _Function | _Operator) -> Any:
        """The object that something stands for."""
        if isinstance(pid, _Operator):
            return getattr(getattr(getattr(torch.ops, pid.namespace), pid.name), pid.overload)
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
