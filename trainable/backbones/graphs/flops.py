"""A counter of the floating-point operations of matrix products and convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import ops
from torch.utils._python_dispatch import TorchDispatchMode

_LEFT = {ops.aten.mm: 0, ops.aten.bmm: 0, ops.aten.addmm: 1, ops.aten.baddbmm: 1}
"""Place of the left matrix among a product's arguments."""

_CONVOLUTIONS = {
    ops.aten.convolution,
    ops.aten._convolution,
    ops.aten.cudnn_convolution,
    ops.aten._slow_conv2d_forward,
    ops.aten.convolution_overrideable,
}
_TRANSPOSED = {ops.aten.convolution, ops.aten._convolution, ops.aten.convolution_overrideable}
_TRANSPOSED_PLACE = 6
"""Place of the argument `transposed` of the operators in `_TRANSPOSED`."""


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Counts the operations of forward passes inside its context.

    A multiplication and an addition are two. The counts are those of
    `torch.utils.flop_counter.FlopCounterMode` where attention is computed by matrix products, but
    importing that takes longer than counting a small network: it imports Triton and the compiler.

    Attributes:
        total: operations so far.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: no code inside is compiled."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator; one that is not counted itself is decomposed if possible."""
        del types
        kwargs = dict(kwargs or {})
        operator = getattr(func, "_overloadpacket", func)
        counted = operator in _LEFT or operator in _CONVOLUTIONS
        if not counted and func is not ops.prim.device.default and hasattr(func, "decompose"):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if operator in _LEFT:
            self.total += 2 * result.numel() * int(args[_LEFT[operator]].shape[-1])
        elif operator in _CONVOLUTIONS:
            transposed = operator in _TRANSPOSED and args[_TRANSPOSED_PLACE]
            positions = (args[0] if transposed else result).numel()
            self.total += 2 * positions * math.prod(args[1].shape[1:])
        return result
