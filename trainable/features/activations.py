"""Activations of examples that may differ in size, and their collation into padded batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Group = tuple[Tensor, ...]
"""(M, *shape) activations of M examples of one padded size, then their (M, ...) side inputs."""


class Activations:
    """Activations of N examples at one boundary, with the side inputs of the layers behind it.

    Each group holds the examples of one padded size. A batch that mixes sizes is padded with zeros
    to the largest size among its own examples, so that it depends on its rows alone.

    Args:
        groups: tensors on one device, in the order of the examples; at least one group.
        group_of: (N,) int64 group of each example; None if there is one group.
        row_of: (N,) int64 row of each example within its group; None if there is one group.
        sizes: padded size of each group, ascending; None if there is one group.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        group_of: Tensor | None = None,
        row_of: Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self._groups = tuple(groups)
        self._sizes = (0,) if sizes is None else tuple(sizes)
        count, device = len(groups[0][0]), groups[0][0].device
        self._group_of = (
            torch.zeros(count, dtype=torch.int64, device=device) if group_of is None else group_of
        )
        self._row_of = torch.arange(count, device=device) if row_of is None else row_of

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def dense(self) -> Tensor:
        """(N, *shape) activations; requires that all examples have one shape at this boundary."""
        if len(self._groups) == 1:
            return self._groups[0][0][self._row_of]
        first = self._groups[0][0]
        found = first.new_empty((len(self), *first.shape[1:]))
        for number, group in enumerate(self._groups):
            here = self._group_of == number
            found[here] = group[0][self._row_of[here]]
        return found

    def at(self, positions: Tensor) -> Activations:
        """Return the examples at some positions, in the order given; they share the tensors."""
        return Activations(
            self._groups, self._group_of[positions], self._row_of[positions], self._sizes
        )

    def inputs(self) -> Group:
        """Collate all examples into a batch of new tensors, which in-place layers may overwrite.

        Returns:
            (N, *shape) activations, followed by the side inputs. Where examples differ in size,
            both are padded with zeros behind their values.
        """
        numbers = torch.unique(self._group_of).tolist() if len(self._groups) > 1 else [0]
        if len(numbers) == 1:
            return tuple(tensor[self._row_of] for tensor in self._groups[numbers[0]])
        batch = []
        for tensors in zip(*(self._groups[number] for number in numbers), strict=True):
            shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
            collated = tensors[0].new_zeros((len(self), *shape))
            for number, tensor in zip(numbers, tensors, strict=True):
                here = self._group_of == number
                collated[here] = _padded(tensor[self._row_of[here]], shape)
            batch.append(collated)
        return tuple(batch)

    def by_size(self) -> list[Tensor]:
        """Return the positions of the examples of each padded size, smaller sizes first."""
        if len(self._groups) == 1:
            return [self._all()]
        return [
            torch.nonzero(self._group_of == number).flatten()
            for number in torch.unique(self._group_of).tolist()
        ]

    def in_parts(self, *, pass_size: float) -> list[Tensor]:
        """Return the positions of each part of a partition that takes the least time.

        A part holds neighbouring padded sizes and is computed as one batch, padded to its largest
        size. Its cost is `pass_size`, plus that size for each of its examples.

        Args:
            pass_size: fixed cost of a batch, in the unit of sizes; infinity gives one part.
        """
        if len(self._groups) == 1 or math.isinf(pass_size):
            return [self._all()]
        groups = self.by_size()
        numbers = torch.unique(self._group_of).tolist()
        cheapest: list[tuple[float, list[Tensor]]] = [(0.0, [])]
        for stop, number in enumerate(numbers, start=1):
            ways = []
            for start, (cost, parts) in enumerate(cheapest):
                part = torch.cat(groups[start:stop])
                added = pass_size + len(part) * self._sizes[number]
                ways.append((cost + added, [*parts, part]))
            cheapest.append(min(ways, key=lambda way: way[0]))
        return cheapest[-1][1]

    def _all(self) -> Tensor:
        return torch.arange(len(self), device=self._group_of.device)


def _padded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return an (M, *smaller) tensor padded with zeros behind its values to (M, *shape)."""
    missing = [
        width
        for size, wanted in zip(reversed(tensor.shape[1:]), reversed(shape), strict=True)
        for width in (0, wanted - size)
    ]
    return functional.pad(tensor, missing)


def filled(batch: Tensor, count: int) -> Tensor:
    """The batch with copies of its first row behind it, up to `count` rows."""
    missing = count - len(batch)
    return torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])]) if missing else batch


def head_rows(values: Tensor) -> Tensor:
    """Return the (B, D) inputs of a head for activations at the last boundary.

    A feature map that a convolutional head slides over is averaged over all positions, which gives
    the mean of its logits.
    """
    return values.mean(dim=(2, 3)) if values.ndim == 4 else values.flatten(1)
