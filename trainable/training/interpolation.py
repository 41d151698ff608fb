"""Interpolation between the initial and the trained weights of a network.

A single training gives all networks on the straight line between the two. If pretraining suits the
images well, the middle of the line is often better than its end; if training gains nothing, the
start is best (Wortsman et al., Robust fine-tuning of zero-shot models, 2022, WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Positions on the line that are tried: 0 is the start, 1 the end of training."""


class WeightPath:
    """The straight line from the present values of tensors to the values that training gives them.

    Args:
        tensors: tensors that training changes, by name; integer tensors are not interpolated.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._live = {name: one for name, one in tensors.items() if one.is_floating_point()}
        self._start = {name: one.detach().clone() for name, one in self._live.items()}

    @contextmanager
    def at(self, share: float) -> Iterator[None]:
        """Move the tensors to a position on the line, for the duration of the block.

        Args:
            share: 0 for the initial values, 1 for the current ones.
        """
        if share == 1:
            yield
            return
        reached = {name: one.detach().clone() for name, one in self._live.items()}
        self.settle(share)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, one in self._live.items():
                    one.copy_(reached[name])

    def settle(self, share: float) -> None:
        """Move the tensors to a position on the line, and leave them there; see `at`."""
        with torch.no_grad():
            for name, one in self._live.items():
                one.copy_(torch.lerp(self._start[name], one.detach(), share))
