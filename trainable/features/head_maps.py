"""What the heads of dense networks take: maps of features, and the features of places in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainable.backbones import Backbone
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import head_inputs
from trainable.features.reader import Indices
from trainable.features.readers import FeatureReaders


class HeadMaps:
    """Maps that the heads of a dense network take, from rows of its last boundary.

    Args:
        readers: reads the rows.
        backbone: the network.
        size: side of its input, in pixels.
        device: the device to compute on.
    """

    def __init__(
        self, readers: FeatureReaders, backbone: Backbone, *, size: int, device: torch.device
    ) -> None:
        traced = backbone.traced(size)
        self._readers = readers
        self._last = len(boundaries(traced))
        self._behind = head_inputs(traced).to(device)

    def of(self, indices: Indices) -> Iterator[list[Tensor]]:
        """Yield the (1, D, H, W) map of each head, for each of M images.

        Images are passed on one by one, so that the maps of one do not depend on others.

        Args:
            indices: (M,) indices of the images.
        """
        for row in self._readers.read(indices, frozen=self._last).dense:
            yield [*self._behind(row[None])]


def features_of(images: Iterable[Sequence[Tensor]], points: Tensor) -> Tensor:
    """Return (M, K, D) features of places in M images; see `features_at`.

    Args:
        images: the maps of each image.
        points: (M, K, 2) places of each image.
    """
    found = [features_at(maps, some) for maps, some in zip(images, points, strict=True)]
    return torch.stack(found)


def features_at(maps: Sequence[Tensor], points: Tensor) -> Tensor:
    """Return (K, D) features of places, those of all maps one after another.

    Between pixels they are interpolated as in `torch.nn.functional.interpolate`.

    Args:
        maps: (1, D, H, W) maps of one image, which may differ in size.
        points: (K, 2) places, from -1 (left, top) to 1 (right, bottom).
    """
    grid = points.to(maps[0].device)[None, None]
    return torch.cat(
        [
            functional.grid_sample(
                one, grid.to(one.dtype), padding_mode="border", align_corners=False
            )[0, :, 0].T
            for one in maps
        ],
        dim=1,
    )
