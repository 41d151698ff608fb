"""Packing of encoded examples into a few large arrays, which are written once and never copied."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_SHARD_BYTES = 64 * 2**20
"""Most bytes of a shard, unless a single example is longer."""


class ShardWriter:
    """Packs encoded examples into shards, in the order given.

    Args:
        max_bytes: most bytes of a shard with more than one example.
    """

    def __init__(self, max_bytes: int = MAX_SHARD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._closed: list[npt.NDArray[np.uint8]] = []
        self._open: npt.NDArray[np.uint8] | None = None
        self._size = 0

    def add(self, encoded: bytes) -> tuple[int, int, int]:
        """Add an example; return its shard, its first byte, and the byte after its last."""
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
