"""Packing of encoded rows into a few large arrays, which are written once and never copied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_SHARD_BYTES = 64 * 2**20
"""Most bytes of a shard, unless a single row is longer."""

UNREAD = -1
"""Shard of a row whose bytes are missing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedRows:
    """N rows of bytes, such as encoded images.

    Attributes:
        shards: 1-d uint8 arrays of rows, one after another.
        shard_of: (N,) int64 shard of each row; -1 if it is unread.
        starts: (N,) int64 position of each row's first byte within its shard.
        stops: (N,) int64 position behind each row's last byte within its shard.
        digests: (N, 32) uint8 SHA-256 of each row's content.
    """

    shards: tuple[npt.NDArray[np.uint8], ...]
    shard_of: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]

    def is_read(self) -> npt.NDArray[np.bool_]:
        """(N,) whether each row has its bytes."""
        return np.not_equal(self.shard_of, UNREAD)

    def row(self, index: int) -> bytes | None:
        """Return the bytes of one row; None if it is unread."""
        if self.shard_of[index] == UNREAD:
            return None
        shard = self.shards[self.shard_of[index]]
        return bytes(shard[self.starts[index] : self.stops[index]])

    def fields_at(self, indices: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the attributes of some rows, in the order given; they share the bytes."""
        return {
            "shard_of": self.shard_of[indices],
            "starts": self.starts[indices],
            "stops": self.stops[indices],
            "digests": self.digests[indices],
        }


def packed(
    rows: Iterable[tuple[bytes, bytes]], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> dict[str, Any]:
    """Pack rows into shards, in the order given, and return the attributes of `PackedRows`.

    Args:
        rows: bytes and digest of each row.
        max_shard_bytes: most bytes of a shard with more than one row.
    """
    writer = ShardWriter(max_shard_bytes)
    places, digests = [], []
    for row, digest in rows:
        places.append(writer.add(row))
        digests.append(digest)
    shard_of, starts, stops = np.asarray(places, dtype=np.int64).reshape(-1, 3).T
    return {
        "shards": writer.finish(),
        "shard_of": shard_of,
        "starts": starts,
        "stops": stops,
        "digests": np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32),
    }


class ShardWriter:
    """Packs rows into shards, in the order given.

    Args:
        max_bytes: most bytes of a shard with more than one row.
    """

    def __init__(self, max_bytes: int = MAX_SHARD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._closed: list[npt.NDArray[np.uint8]] = []
        self._open: npt.NDArray[np.uint8] | None = None
        self._size = 0

    def add(self, encoded: bytes) -> tuple[int, int, int]:
        """Add a row; return its shard, its first byte, and the byte after its last."""
        if self._open is not None and self._size + len(encoded) > self._max_bytes:
            self._close()
        if self._open is None:  # takes memory page by page, as bytes arrive
            self._open = np.empty(max(self._max_bytes, len(encoded)), dtype=np.uint8)
        start, self._size = self._size, self._size + len(encoded)
        self._open[start : self._size] = np.frombuffer(encoded, dtype=np.uint8)
        return len(self._closed), start, self._size

    def finish(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """Return all shards, read-only."""
        self._close()
        return tuple(self._closed)

    def _close(self) -> None:
        if self._open is None:
            return
        self._open.resize(self._size, refcheck=False)
        self._open.flags.writeable = False
        self._closed.append(self._open)
        self._open, self._size = None, 0
