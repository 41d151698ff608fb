"""Read the activations of frozen prefixes, from the feature cache or by a forward pass.

Levels are stacked: level 0 is the inputs (such as decoded pixels), level k is the k-th boundary of
the backbone. The cost model says which levels are kept. Rows of a kept level come from the store;
what it lacks is computed from the deepest stored level below, and stored. Rows of another level are
computed from those of the deepest kept level below.

A row has the same bits whichever trial computed it, and in whichever batch: on a CPU every forward
pass has the same number of examples, and the last batch is padded. (Kernels are chosen by batch
size, and those for other sizes round differently.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from trainable.backbones import Backbone
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import FrozenPrefix, frozen_between
from trainable.data.labelled_examples import LabelledExamples
from trainable.device import autocast
from trainable.features.activations import filled, head_rows
from trainable.features.cache import FeatureCache, cache_levels
from trainable.features.cost_model import VALUE_BYTES, Level
from trainable.features.feature_keys import feature_key
from trainable.features.input_reader import InputReader
from trainable.features.store import Collection
from trainable.micro_batches import MicroBatches, nothing
from trainable.modalities import modality_of
from trainable.spec.augmentation import Augmentation

GPU_BATCH = 256
"""Examples per forward pass on a GPU; part of every feature key."""

_CHUNK = 256
"""Examples whose rows of a lower level are in memory at a time."""

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]

Prefixes = dict[tuple[fx.GraphModule, int, int], FrozenPrefix]
"""By the whole backbone, and the levels that they lead from and to."""


@dataclass(kw_only=True)
class FeatureCounts:
    """Cache hits and misses, and the compute that was requested and done.

    Attributes:
        hits: rows that were in the store.
        misses: rows that were computed.
        asked_flops: FLOPs of all requested rows, counted from the inputs on.
        computed_flops: FLOPs of the forward passes that were made.
    """

    hits: int = 0
    misses: int = 0
    asked_flops: float = 0.0
    computed_flops: float = 0.0


class FeatureReader:
    """Reads the levels of one backbone for examples of one padded size, or for views of them.

    Args:
        examples: the examples with their encoded bytes.
        backbone: the backbone whose prefixes are run.
        size: size of its input; see `Modality`.
        padded_size: padded size of the examples that will be read; None for `size`.
        device: the device to compute on.
        precision: `fp32` or `bf16`.
        cache: the feature cache; None computes every row every time.
        augmentation: views to read instead of the examples themselves; None for the examples.
        seed: seed of the views.
        counts: counters that this reader adds to; None for its own.
        prefixes: made so far, shared by readers of one backbone; None for its own.
        heartbeat: called after every chunk of examples that was read or passed through a prefix.
    """

    def __init__(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int,
        padded_size: int | None = None,
        device: torch.device,
        precision: str,
        cache: FeatureCache | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        counts: FeatureCounts | None = None,
        prefixes: Prefixes | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self.counts = counts or FeatureCounts()
        self._prefixes = {} if prefixes is None else prefixes
        self._digests = examples.digests
        self._backbone = backbone
        padded_size = padded_size or size
        self._traced = backbone.traced(padded_size)
        self._device = device
        self._precision = precision
        self._cache = cache
        self._augmentation = augmentation
        self._padded_size = padded_size
        self._inputs_of = partial(
            modality_of(examples, backbone.weights).inputs,
            examples,
            padded_size=padded_size,
            size=size,
            augmentation=augmentation,
            seed=seed,
        )
        self._inputs = self._inputs_of(backbone)
        self._input_reader = InputReader(
            self._inputs, examples.digests, cache=cache, heartbeat=heartbeat
        )
        self._heartbeat = heartbeat
        self._pieces = MicroBatches(device, what="frozen prefix", heartbeat=heartbeat)
        self._cuts = boundaries(self._traced)
        self._levels: list[Level] = []
        if cache is not None:
            self._levels = cache_levels(self._cuts, cache, views=self._num_views)
        self._collections: dict[int, Collection] = {}

    @property
    def _num_views(self) -> int:
        return self._augmentation.num_views if self._augmentation else 1

    @property
    def _batch(self) -> int:
        return GPU_BATCH if self._device.type == "cuda" else self._inputs.batch

    def row_bytes(self, frozen: int) -> int:
        """Return the bytes that one example takes in the result of `read`."""
        return VALUE_BYTES * self._num_views * math.prod(self._shape(frozen))

    def read(self, indices: Indices, *, frozen: int) -> Tensor:
        """Return the activations of some examples, or of their views.

        Args:
            indices: (M,) indices of the examples.
            frozen: number of boundaries in the prefix; 0 gives the network's inputs.

        Returns:
            (M, *shape) on the device, float32 but for inputs that are whole numbers; with an
            augmentation (M, views, *shape).

        Raises:
            DataError: an example cannot be read; the message names its path.
        """
        if not frozen:
            rows = torch.from_numpy(self._counted(0, indices)).to(self._device)
            return self._inputs.content(rows)
        return torch.from_numpy(self._counted(frozen, indices)).to(self._device)

    def head_inputs(self, indices: Indices) -> Tensor:
        """Return (M, D) float32 inputs of the head; see `head_rows`.

        Args:
            indices: (M,) indices of the examples.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """
        return head_rows(self.read(indices, frozen=len(self._cuts)))

    def side(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return the side inputs of some examples, on the device; see `Inputs`."""
        return tuple(one.to(self._device) for one in self._inputs.side(indices))

    @property
    def head_inputs_key(self) -> dict[str, Any]:
        """JSON values that `head_inputs` depends on, apart from the example's content."""
        return self._key(len(self._cuts))

    def _counted(self, level: int, indices: Indices) -> Rows:
        rows, computed = self._rows(level, indices)
        self.counts.hits += len(indices) - computed
        self.counts.misses += computed
        self.counts.asked_flops += len(indices) * self._num_views * self._flops(level)
        return rows

    def _rows(self, level: int, indices: Indices) -> tuple[Rows, int]:
        """Return rows of a level, and how many of them were computed."""
        if not level:
            return self._input_reader.read(indices)
        if not self._is_kept(level):
            parts = list(self._computed(level, indices))
            return np.concatenate([self._empty(level), *parts]), len(indices)
        assert self._cache is not None
        speeds = self._cache.speeds

        def patience_s(count: int) -> float:
            compute_s = self._num_views * speeds.compute_s(self._cuts[level - 1])
            return count * (compute_s + self._inputs.row_s)

        return self._collection(level).fetch(
            self._digests[indices],
            lambda positions: self._computed(level, indices[positions]),
            patience_s=patience_s,
            heartbeat=self._heartbeat,
        )

    def _is_kept(self, level: int) -> bool:
        return self._cache is not None and self._levels[level - 1].kept

    def _computed(self, level: int, indices: Indices) -> Iterator[Rows]:
        """Compute rows of a level in the order of the indices, one chunk at a time."""
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            base = self._base(level, chunk)
            below, _ = self._rows(base, chunk)
            yield self._forward(base, level, below, self.side(chunk))

    def _base(self, level: int, indices: Indices) -> int:
        """Return the level below that these examples' rows are computed from; 0 for the inputs."""
        digests = self._digests[indices]
        for below in filter(self._is_kept, range(level - 1, 0, -1)):
            # A level that is not worth its bytes is so because of the kept level below it.
            if not self._is_kept(level) or self._collection(below).holds(digests).all():
                return below
        return 0

    def _forward(self, base: int, level: int, below: Rows, side: tuple[Tensor, ...]) -> Rows:
        """Compute rows of a level from rows of a level below it, and from side inputs."""
        per_example = below.shape[: 2 if self._augmentation else 1]
        inputs = torch.from_numpy(below).flatten(0, len(per_example) - 1)
        prefix = self._between(base, level)
        size = self._batch
        out = np.empty((len(inputs), *self._shape(level)), dtype=np.float32)

        def pass_on(rows: slice) -> None:
            count = rows.stop - rows.start
            full = self._pieces.limited(size) if self._device.type == "cpu" else count
            content, *beside = (
                filled(tensor[rows], full).to(self._device) for tensor in (inputs, *side)
            )
            with autocast(self._precision, self._device):
                result = prefix(content if base else self._inputs.content(content), *beside)
            out[rows] = result[:count].float().cpu().numpy()

        self._pieces.over(len(inputs), most=size, attempt=pass_on)
        self.counts.computed_flops += len(inputs) * (self._flops(level) - self._flops(base))
        return out.reshape(*per_example, *self._shape(level))

    def _between(self, base: int, level: int) -> FrozenPrefix:
        key = self._traced.module, base, level
        if key not in self._prefixes:
            start = self._cuts[base - 1] if base else None
            prefix = frozen_between(self._traced, start, self._cuts[level - 1])
            self._prefixes[key] = prefix.to(self._device)
        return self._prefixes[key]

    def _shape(self, level: int) -> tuple[int, ...]:
        if level:
            return self._cuts[level - 1].shape
        return self._inputs.shape[1 if self._augmentation else 0 :]

    def _flops(self, level: int) -> float:
        return self._cuts[level - 1].flops if level else 0.0

    def _empty(self, level: int) -> Rows:
        views = (self._num_views,) if self._augmentation else ()
        return np.empty((0, *views, *self._shape(level)), np.float32)

    def _collection(self, level: int) -> Collection:
        if level not in self._collections:
            assert self._cache is not None
            none = self._empty(level)
            self._collections[level] = self._cache.store.collection(
                self._key(level), shape=none.shape[1:], dtype=none.dtype
            )
        return self._collections[level]

    def _key(self, level: int) -> dict[str, Any]:
        node = self._cuts[level - 1].node
        owner = self._backbone.naming(node, self._padded_size)
        inputs = self._inputs if owner is self._backbone else self._inputs_of(owner)
        return feature_key(
            owner.weights,
            owner.traced(self._padded_size),
            content=inputs.content_key,
            boundary=node,
            precision=self._precision,
            device=self._device,
            batch=self._batch,
        )
