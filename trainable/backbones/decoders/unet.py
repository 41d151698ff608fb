"""A light decoder in the way of U-Net (Ronneberger et al. 2015, arXiv 1505.04597).

The logits of a pixel are a sum over heads: one on each of the encoder's maps, and one on the last
map of the decoder. The first alone are a linear probe on the encoder, so that the decoder, which
begins with random weights, starts from the probe and adds to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 8
"""Channels of a group of GroupNorm, which also divides the width of every block."""

MOST_CHANNELS = 64
"""Most channels of a block of the decoder."""


def widths_of(sides: Sequence[int], *, size: int) -> list[int]:
    """Return the channels of each block of a decoder: more for coarser maps.

    Args:
        sides: side of each map in pixels, the finest first.
        size: side of the network's input.
    """
    return [min(MOST_CHANNELS, GROUP * max(1, size // side)) for side in sides]


class Decoder(nn.Module):
    """From maps of an encoder to logits of every pixel.

    Args:
        channels: channels of each map, the finest first.
        sides: side of each map in pixels.
        widths: channels of each block; see `widths_of`.
        size: side of the network's input.
    """

    def __init__(
        self,
        channels: Sequence[int],
        sides: Sequence[int],
        widths: Sequence[int],
        *,
        size: int,
    ) -> None:
        super().__init__()
        self._sides = tuple(sides)
        self._size = size
        self.reduce = nn.ModuleList(
            _Reduction(own, width) for own, width in zip(channels, widths, strict=True)
        )
        self.blocks = nn.ModuleList(
            _Block(below + width, width) for width, below in itertools.pairwise(widths)
        )
        self.heads = nn.ModuleList(nn.Conv2d(own, 1, 1) for own in channels)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute logits.

        Args:
            maps: (N, C_k, S_k, S_k) maps, the finest first.

        Returns:
            (N, 1, S, S) logits; the heads are replaced.
        """
        # torch.fx follows indices, and no iteration over what it does not know.
        taken = [maps[level] for level in range(len(self._sides))]
        state = self.reduce[-1](taken[-1])
        for level in reversed(range(len(self.blocks))):
            beside = self.reduce[level](taken[level])
            state = self.blocks[level](_enlarged(state, self._sides[level]), beside)
        logits = _enlarged(self.head(state), self._size)
        for head, one in zip(self.heads, taken, strict=True):
            logits = logits + _enlarged(head(one), self._size)
        return logits


class _Reduction(nn.Module):
    """Fewer channels of a map, brought to one scale."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.GroupNorm(width // GROUP, width)

    def forward(self, inputs: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.conv(inputs))
        return normalised


class _Block(nn.Module):
    """Joins the state below, enlarged, with a map of the encoder."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(width // GROUP, width)
        self.relu = nn.ReLU()

    def forward(self, state: Tensor, beside: Tensor) -> Tensor:
        joined = torch.cat([state, beside], dim=1)
        output: Tensor = self.relu(self.norm(self.conv(joined)))
        return output


def _enlarged(one: Tensor, side: int) -> Tensor:
    return functional.interpolate(one, size=(side, side), mode="bilinear")
