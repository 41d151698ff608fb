"""Masks of images: the class of each pixel, as encoded bytes that all trials of a node share."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainable.data.shards import MAX_SHARD_BYTES, PackedRows, packed
from trainable.errors import DataError

IGNORED = 255
"""Value of a pixel that has no class; class ids are smaller."""

SHOWN_SIDE = 64
"""Side of the predicted masks that are kept to be looked at, in pixels."""

Mask = npt.NDArray[np.uint8]
"""(H, W) class ids, or `IGNORED`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Masks(PackedRows):
    """N masks, each as a PNG of class ids.

    A digest is that of the size and the class ids, however they are encoded.
    """

    @classmethod
    def of(cls, masks: Iterable[Mask], *, max_shard_bytes: int = MAX_SHARD_BYTES) -> Masks:
        """Encode masks and pack them into shards, in the order given.

        Args:
            masks: (H, W) uint8 class ids, or `IGNORED`; sizes may differ.
            max_shard_bytes: most bytes of a shard with more than one mask.
        """
        rows = ((encode_mask(mask), mask_digest(mask)) for mask in masks)
        return cls(**packed(rows, max_shard_bytes=max_shard_bytes))

    def __len__(self) -> int:
        return len(self.shard_of)

    def mask(self, index: int) -> Mask:
        """Return the class ids of one mask.

        Raises:
            DataError: the mask is unread.
        """
        encoded = self.row(index)
        if encoded is None:
            raise DataError("a mask was not read, for no draw of this sweep's budgets holds it")
        return decode_mask(encoded)

    def resized(self, size: int) -> Mask:
        """Return the (N, size, size) class ids of all masks, squashed by the nearest pixel.

        Raises:
            DataError: a mask is unread.
        """
        found = np.empty((len(self), size, size), dtype=np.uint8)
        for index in range(len(self)):
            mask = Image.fromarray(self.mask(index))
            found[index] = np.array(mask.resize((size, size), Image.Resampling.NEAREST))
        return found

    def at(self, indices: npt.NDArray[np.int64]) -> Masks:
        """Return some of the masks, in the order given; they share the bytes."""
        return replace(self, **self.fields_at(indices))


def decode_mask(encoded: bytes) -> Mask:
    """Return the class ids of an encoded mask."""
    with Image.open(io.BytesIO(encoded), formats=["PNG"]) as opened:
        return np.array(opened)


def mask_digest(mask: Mask) -> bytes:
    """SHA-256 of the size and the class ids of a mask."""
    height, width = mask.shape
    return hashlib.sha256(f"{height} x {width}:".encode() + mask.tobytes()).digest()


def encode_mask(mask: Mask) -> bytes:
    """Return the PNG of a mask."""
    sink = io.BytesIO()
    Image.fromarray(mask).save(sink, format="PNG")
    return sink.getvalue()
