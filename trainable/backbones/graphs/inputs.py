"""What graphs take: a content input, and side inputs that say how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from trainable.spec.settings import SIZES


class GraphInputs(Protocol):
    """The inputs of a graph for examples of one size; `str` names the examples."""

    @property
    def size(self) -> int:
        """Size of an example, in the unit that `setting` is given in."""

    @property
    def setting(self) -> str:
        """Name of the setting that decides the size."""

    @property
    def positions(self) -> int:
        """Places of one example that the network computes at, as the work grows with them."""

    def resized(self, size: int) -> Self:
        """The same for examples of another size."""

    def make(self, batch: int, *, device: torch.device) -> tuple[Tensor, ...]:
        """Inputs for a number of examples, content first; their values mean nothing."""


@dataclass(frozen=True)
class ImageInputs:
    """Images (N, 3, S, S) float32, without side inputs.

    Attributes:
        size: S, in pixels.
    """

    size: int

    @property
    def setting(self) -> str:
        """Name of the setting that decides the size."""
        return SIZES["image"]

    @property
    def positions(self) -> int:
        """Pixels of an image."""
        return self.size**2

    def resized(self, size: int) -> Self:
        """The same for images of another size."""
        return replace(self, size=size)

    def make(self, batch: int, *, device: torch.device) -> tuple[Tensor, ...]:
        """Black images."""
        return (torch.zeros(batch, 3, self.size, self.size, device=device),)

    def __str__(self) -> str:
        return f"RGB images of {self.size} x {self.size} pixels"


@dataclass(frozen=True)
class TokenInputs:
    """Tokens (N, L) int64, and as their side input a mask (N, L) int64.

    The mask is 1 at tokens and 0 at the padding to their right.

    Attributes:
        size: L, in tokens.
    """

    size: int

    @property
    def setting(self) -> str:
        """Name of the setting that decides the size."""
        return SIZES["text"]

    @property
    def positions(self) -> int:
        """Tokens of a text."""
        return self.size

    def resized(self, size: int) -> Self:
        """The same for texts of another length."""
        return replace(self, size=size)

    def make(self, batch: int, *, device: torch.device) -> tuple[Tensor, ...]:
        """Texts without padding of the first token that there is."""
        tokens = torch.zeros(batch, self.size, dtype=torch.int64, device=device)
        return tokens, torch.ones_like(tokens)

    def __str__(self) -> str:
        return f"texts of {self.size} tokens"
