"""Encoded images one after the other in a few large arrays, written once and never copied."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_SHARD_BYTES = 64 * 2**20
"""Longest shard in bytes, unless one image is longer."""


class ShardWriter:
    """Packs encoded images into shards, in the order given.

    Args:
        max_bytes: a shard is closed before it would grow longer than this.
    """

    def __init__(self, max_bytes: int = MAX_SHARD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._closed: list[npt.NDArray[np.uint8]] = []
        self._open: npt.NDArray[np.uint8] | None = None
        self._size = 0

    def add(self, encoded: bytes) -> tuple[int, int, int]:
        """Add an image; returns its shard, its first byte, and one past its last byte."""
        if self._open is not None and self._size + len(encoded) > self._max_bytes:
            self._close()
        if self._open is None:  # memory is taken page by page as bytes arrive, not here
            self._open = np.empty(max(self._max_bytes, len(encoded)), dtype=np.uint8)
        start, self._size = self._size, self._size + len(encoded)
        self._open[start : self._size] = np.frombuffer(encoded, dtype=np.uint8)
        return len(self._closed), start, self._size

    def finish(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """The shards, read-only."""
        self._close()
        return tuple(self._closed)

    def _close(self) -> None:
        if self._open is None:
            return
        self._open.resize(self._size, refcheck=False)
        self._open.flags.writeable = False
        self._closed.append(self._open)
        self._open, self._size = None, 0
