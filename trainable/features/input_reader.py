"""The lowest level of the cache: inputs of examples, such as decoded pixels, each made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.features.cache import FeatureCache
from trainable.features.cost_model import fits
from trainable.micro_batches import nothing
from trainable.modalities import Inputs
from trainable.spec.trial_spec import CacheMode

_CHUNK = 256
"""Examples whose rows are made at a time."""

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]


class InputReader:
    """Reads the inputs of examples from the feature cache, or makes them.

    Args:
        inputs: makes the rows.
        digests: (N, 32) content hashes of the examples.
        cache: where rows are stored; None makes them every time.
        heartbeat: called after every chunk of examples.
    """

    def __init__(
        self,
        inputs: Inputs,
        digests: npt.NDArray[np.uint8],
        *,
        cache: FeatureCache | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self._inputs = inputs
        self._digests = digests
        self._heartbeat = heartbeat
        self._collection = (
            cache.store.collection(inputs.key, shape=inputs.shape, dtype=inputs.dtype)
            if cache is not None and inputs.stored and _is_kept(cache, math.prod(inputs.shape))
            else None
        )

    def read(self, indices: Indices) -> tuple[Rows, int]:
        """Read the rows of some examples.

        Args:
            indices: (M,) indices of the examples.

        Returns:
            (M, *shape) rows, and how many of them were made.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """
        if self._collection is None:
            none = np.empty((0, *self._inputs.shape), dtype=self._inputs.dtype)
            return np.concatenate([none, *self._made(indices)]), len(indices)
        return self._collection.fetch(
            self._digests[indices],
            lambda positions: self._made(indices[positions]),
            patience_s=lambda count: count * self._inputs.row_s,
            heartbeat=self._heartbeat,
        )

    def _made(self, indices: Indices) -> Iterator[Rows]:
        for start in range(0, len(indices), _CHUNK):
            yield self._inputs.rows(indices[start : start + _CHUNK])
            self._heartbeat()


def _is_kept(cache: FeatureCache, row_bytes: int) -> bool:
    """Whether rows are stored; reading them is always cheaper, but they may be too many."""
    if cache.mode is CacheMode.AUTO:
        return fits(row_bytes, rows=cache.num_images, max_bytes=cache.store.max_bytes)
    return cache.mode is CacheMode.ALWAYS
