"""Counter of floating-point operations, with PyTorch's own formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import ops
from torch.utils._python_dispatch import TorchDispatchMode


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Adds up the operations of what runs inside it, forward and backward.

    It does what `torch.utils.flop_counter.FlopCounterMode` does, with the formulas of that, and
    without the compiler, which a mode imports to say that it is not to be compiled.

    Attributes:
        total: operations so far.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # imports Triton

        self.total = 0
        self._formulas = flop_registry

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing runs in it that could be compiled."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, in the parts that have formulas where it has none itself."""
        del types
        kwargs = dict(kwargs or {})
        operator = getattr(func, "_overloadpacket", func)
        formula = self._formulas.get(operator)
        if formula is None and func is not ops.prim.device.default and hasattr(func, "decompose"):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result
