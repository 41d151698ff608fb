"""Training, validation and test examples of a trial, as activations of the frozen prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.activations import Activations
from trainable.features.cache import FeatureCache
from trainable.features.head_maps import HeadMaps, features_of
from trainable.features.reader import FeatureCounts
from trainable.features.readers import FeatureReaders
from trainable.micro_batches import nothing
from trainable.modalities import modality_of
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import Places, task_called
from trainable.training.learner import Examples
from trainable.training.probe import Features, fixed

_TESTED_BYTES = 256 * 2**20
"""Most bytes of activations of test examples that are in memory at a time."""


class ExampleReader:
    """Reads the examples of one trial as activations of the frozen prefix.

    Args:
        spec: the trial's configuration; its augmentation, precision and seed are used.
        examples: all examples that the trial may read.
        backbone: the backbone whose prefix computes activations.
        frozen: number of boundaries in the prefix.
        size: size of the backbone's input; see `Modality`.
        device: the device to compute on.
        cache: the feature cache; None computes the activations here.
        heartbeat: called after every chunk of examples, as a sign of life.

    Attributes:
        counts: counters of cache hits and misses, and of FLOPs.
        device: as given.
    """

    def __init__(
        self,
        spec: TrialSpec,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        frozen: int,
        size: int,
        device: torch.device,
        cache: FeatureCache | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self.counts = FeatureCounts()
        self._spec = spec
        self._labelled = examples
        self._backbone = backbone
        self._frozen = frozen
        self._size = size
        self.device = device
        self._cache = cache
        self._heartbeat = heartbeat
        self._modality = modality_of(examples, backbone.weights)
        self._plain = self._reader()

    def plain(self, indices: npt.NDArray[np.int64]) -> Examples:
        """Return examples without augmentation, one row each.

        Args:
            indices: (M,) int64 indices of the examples.
        """
        read = self._plain.read(indices, frozen=self._frozen)
        return self._with_targets(read, self._labelled, indices)

    def views(self, indices: npt.NDArray[np.int64]) -> Examples:
        """Return all views of each example, one example after another; see `view_rows`.

        If the spec has no augmentation, these are the examples as they are.

        Args:
            indices: (M,) int64 indices of the examples.
        """
        augmentation = self._spec.augment
        if augmentation is None:
            return self.plain(indices)
        reader = self._reader(augmentation=augmentation, num_images=len(indices))
        views = reader.read_views(indices, frozen=self._frozen)
        labelled = self._modality.labels_of_views(
            self._labelled.at(indices),
            self._backbone,
            size=self._size,
            augmentation=augmentation,
            seed=self._spec.seed,
        )
        return self._with_targets(views, labelled, np.arange(len(labelled)))

    def head_features(self, indices: npt.NDArray[np.int64], places: Places | None) -> Features:
        """Return what a head is fitted on, without augmentation; see `probe_of_draw`."""
        if places is None:
            return fixed(self._plain.head_inputs(indices))
        maps = HeadMaps(self._plain, self._backbone, size=self._size, device=self.device)
        return fixed(features_of(maps.of(indices), places.points))

    @property
    def head_inputs_key(self) -> dict[str, Any]:
        """See `FeatureReader.head_inputs_key`."""
        return self._plain.head_inputs_key

    def view_rows(self, positions: npt.NDArray[np.int64]) -> Tensor:
        """Return the rows that belong to some examples in the result of `views`.

        Args:
            positions: (K,) positions of the examples within the indices that `views` was given.

        Returns:
            (K * views,) int64 rows, on the reader's device.
        """
        views = self._spec.augment.num_views if self._spec.augment else 1
        rows = positions[:, None] * views + np.arange(views)
        return torch.from_numpy(rows.ravel()).to(self.device)

    def few_at_a_time(self, indices: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the indices in pieces whose activations take at most `_TESTED_BYTES` each."""
        size = max(1, _TESTED_BYTES // self._plain.row_bytes(self._frozen))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]

    def _with_targets(
        self,
        activations: Activations,
        labelled: LabelledExamples,
        indices: npt.NDArray[np.int64],
    ) -> Examples:
        task = task_called(labelled.task)
        targets = task.targets(labelled, indices, size=self._size, device=self.device)
        devices.synchronize(self.device)
        return Examples(activations, targets)

    def _reader(
        self, *, augmentation: Augmentation | None = None, num_images: int | None = None
    ) -> FeatureReaders:
        """Return a reader of the examples or of their views.

        Args:
            augmentation: augmentation whose views are read; None for the examples as they are.
            num_images: number of images that trials may ask for; None for all of the sweep.
        """
        cache = self._cache
        if cache is not None and num_images is not None:
            cache = replace(cache, num_images=num_images)
        return FeatureReaders(
            self._labelled,
            self._backbone,
            size=self._size,
            device=self.device,
            precision=devices.resolve_precision(self._spec.precision, self.device),
            cache=cache,
            augmentation=augmentation,
            seed=self._spec.seed,
            counts=self.counts,
            heartbeat=self._heartbeat,
        )
