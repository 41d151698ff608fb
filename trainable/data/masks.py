"""Masks of images: the class of each pixel, as encoded bytes that all trials of a node share."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainable.data.shards import MAX_SHARD_BYTES, ShardWriter
from trainable.errors import DataError

IGNORED = 255
"""Value of a pixel that has no class; class ids are smaller."""

UNREAD = -1

Mask = npt.NDArray[np.uint8]
"""(H, W) class ids, or `IGNORED`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Masks:
    """N masks, each as a PNG of class ids.

    Attributes:
        shards: 1-d uint8 arrays of encoded masks, one after another.
        shard_of: (N,) int64 shard of each mask; -1 if it is unread.
        starts: (N,) int64 position of each mask's first byte within its shard.
        stops: (N,) int64 position behind each mask's last byte within its shard.
        digests: (N, 32) uint8 SHA-256 of the size and the class ids, however they are encoded.
    """

    shards: tuple[npt.NDArray[np.uint8], ...]
    shard_of: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, masks: Iterable[Mask], *, max_shard_bytes: int = MAX_SHARD_BYTES) -> Masks:
        """Encode masks and pack them into shards, in the order given.

        Args:
            masks: (H, W) uint8 class ids, or `IGNORED`; sizes may differ.
            max_shard_bytes: most bytes of a shard with more than one mask.
        """
        writer = ShardWriter(max_shard_bytes)
        places, digests = [], []
        for mask in masks:
            places.append(writer.add(_encoded(mask)))
            digests.append(mask_digest(mask))
        shard_of, starts, stops = np.asarray(places, dtype=np.int64).reshape(-1, 3).T
        return cls(
            shards=writer.finish(),
            shard_of=shard_of,
            starts=starts,
            stops=stops,
            digests=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32),
        )

    def __len__(self) -> int:
        return len(self.shard_of)

    def mask(self, index: int) -> Mask:
        """Return the class ids of one mask.

        Raises:
            DataError: the mask is unread.
        """
        if self.shard_of[index] == UNREAD:
            raise DataError("a mask was not read, for no draw of this sweep's budgets holds it")
        shard = self.shards[self.shard_of[index]]
        encoded = bytes(shard[self.starts[index] : self.stops[index]])
        with Image.open(io.BytesIO(encoded), formats=["PNG"]) as opened:
            return np.array(opened)

    def resized(self, index: int, size: int) -> Mask:
        """Return the class ids of one mask, squashed to size x size by the nearest pixel."""
        mask = Image.fromarray(self.mask(index))
        return np.array(mask.resize((size, size), Image.Resampling.NEAREST))

    def at(self, indices: npt.NDArray[np.int64]) -> Masks:
        """Return some of the masks, in the order given; they share the bytes."""
        return replace(
            self,
            shard_of=self.shard_of[indices],
            starts=self.starts[indices],
            stops=self.stops[indices],
            digests=self.digests[indices],
        )


def mask_digest(mask: Mask) -> bytes:
    """SHA-256 of the size and the class ids of a mask."""
    height, width = mask.shape
    return hashlib.sha256(f"{height} x {width}:".encode() + mask.tobytes()).digest()


def _encoded(mask: Mask) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(mask).save(sink, format="PNG")
    return sink.getvalue()
