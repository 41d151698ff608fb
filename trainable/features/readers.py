"""Read features of examples that may differ in size: one `FeatureReader` for each padded size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.activations import Activations, Group
from trainable.features.reader import FeatureCounts, FeatureReader, Indices
from trainable.modalities import modality_of


class FeatureReaders:
    """Reads the levels of one backbone for examples of any size.

    Args:
        examples: the examples with their encoded bytes.
        backbone: the backbone whose prefixes are run.
        size: size of its input; see `Modality`.
        device: the device to compute on.
        counts: counters that all readers add to; None for their own.
        options: further arguments of `FeatureReader`.
    """

    def __init__(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int,
        device: torch.device,
        counts: FeatureCounts | None = None,
        **options: Any,
    ) -> None:
        self._examples = examples
        self._backbone = backbone
        self._size = size
        self._device = device
        self._modality = modality_of(examples, backbone.weights)
        self._make = partial(
            FeatureReader,
            examples,
            backbone,
            size=size,
            device=device,
            counts=counts or FeatureCounts(),
            prefixes={},
            **options,
        )
        self._readers: dict[int, FeatureReader] = {}

    def row_bytes(self, frozen: int) -> int:
        """Return the most bytes that one example takes in the result of `read`."""
        return self._reader(self._size).row_bytes(frozen)

    def read(self, indices: Indices, *, frozen: int) -> Activations:
        """Return the activations of M examples.

        Args:
            indices: (M,) indices of the examples.
            frozen: number of boundaries in the prefix; 0 gives the network's inputs.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """
        return self._collected(
            indices, lambda reader, some: (reader.read(some, frozen=frozen), *reader.side(some))
        )

    def read_views(self, indices: Indices, *, frozen: int) -> Activations:
        """Return the activations of all views of M examples, one example after another.

        Args:
            indices: (M,) indices of the examples, of a modality with one padded size.
            frozen: see `read`.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """
        return Activations([(self._reader(self._size).read(indices, frozen=frozen).flatten(0, 1),)])

    def head_inputs(self, indices: Indices) -> Tensor:
        """Return (M, D) inputs of the head; see `FeatureReader.head_inputs`."""
        return self._collected(indices, lambda reader, some: (reader.head_inputs(some),)).dense

    @property
    def head_inputs_key(self) -> dict[str, Any]:
        """See `FeatureReader.head_inputs_key`."""
        return self._reader(self._size).head_inputs_key

    def _collected(
        self, indices: Indices, read: Callable[[FeatureReader, Indices], Group]
    ) -> Activations:
        """Read examples one padded size after another, and keep their order."""
        sizes = self._modality.padded_sizes(self._examples, indices, self._backbone, self._size)
        found = np.unique(sizes)
        groups = []
        rows = np.empty(len(indices), dtype=np.int64)
        for size in found.tolist() or [self._size]:
            here = sizes == size
            groups.append(read(self._reader(size), indices[here]))
            rows[here] = np.arange(here.sum())
        if len(groups) == 1:
            return Activations(groups)
        group_of = torch.from_numpy(np.searchsorted(found, sizes)).to(self._device)
        row_of = torch.from_numpy(rows).to(self._device)
        return Activations(groups, group_of, row_of, found.tolist())

    def _reader(self, padded_size: int) -> FeatureReader:
        if padded_size not in self._readers:
            self._readers[padded_size] = self._make(padded_size=padded_size)
        return self._readers[padded_size]
