"""A counter of floating-point operations, with PyTorch's formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import ops
from torch.utils._python_dispatch import TorchDispatchMode


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Counts the operations inside its context, forward and backward.

    It works like `torch.utils.flop_counter.FlopCounterMode` and uses its formulas, but does not
    import the compiler, which other modes do only to opt out of it.

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
        """Return False: no code inside is compiled."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator; one without a formula is decomposed if possible."""
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
