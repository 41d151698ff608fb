"""Training, validation and test examples of a trial, as activations of the frozen prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts, FeatureReader
from trainable.micro_batches import nothing
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import TrialSpec
from trainable.training.learner import Examples

_TESTED_BYTES = 256 * 2**20
"""Activations of test images that are held in memory at a time."""


class ExampleReader:
    """Examples of one trial.

    Args:
        spec: its augmentation, precision and seed are read.
        images: all images that the trial may touch.
        backbone: whose prefix is run.
        frozen: number of boundaries in the prefix.
        image_size: side of the backbone's input, in pixels.
        device: to compute on.
        cache: where activations are kept; None computes them here.
        heartbeat: called after every chunk of images, as a sign of life.

    Attributes:
        counts: what was asked for, and what it took.
    """

    def __init__(
        self,
        spec: TrialSpec,
        images: LabelledExamples,
        backbone: Backbone,
        *,
        frozen: int,
        image_size: int,
        device: torch.device,
        cache: FeatureCache | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        self.counts = FeatureCounts()
        self._spec = spec
        self._images = images
        self._backbone = backbone
        self._frozen = frozen
        self._image_size = image_size
        self._device = device
        self._cache = cache
        self._heartbeat = heartbeat
        self._plain = self._reader()

    def plain(self, indices: npt.NDArray[np.int64]) -> Examples:
        """The images as they are, one row each."""
        return self._read(self._plain, indices)

    def views(self, indices: npt.NDArray[np.int64]) -> Examples:
        """The views of images, `views` rows an image, one image after another.

        Images as they are, where the spec asks for no views.
        """
        if self._spec.augment is None:
            return self.plain(indices)
        views = self._read(self._reader(augmentation=self._spec.augment), indices)
        number = views.activations.shape[1]
        return Examples(views.activations.flatten(0, 1), views.labels.repeat_interleave(number))

    def head_inputs(self, indices: npt.NDArray[np.int64]) -> Tensor:
        """Inputs of the head for unaugmented images; see `FeatureReader.head_inputs`."""
        return self._plain.head_inputs(indices)

    @property
    def head_inputs_key(self) -> dict[str, Any]:
        """See `FeatureReader.head_inputs_key`."""
        return self._plain.head_inputs_key

    def view_rows(self, positions: npt.NDArray[np.int64]) -> Tensor:
        """Rows in what `views` gave that show the images at some positions of its indices."""
        views = self._spec.augment.views if self._spec.augment else 1
        rows = positions[:, None] * views + np.arange(views)
        return torch.from_numpy(rows.ravel()).to(self._device)

    def few_at_a_time(self, indices: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """The indices in pieces whose activations take little memory."""
        size = max(1, _TESTED_BYTES // self._plain.row_bytes(self._frozen))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]

    def _read(self, reader: FeatureReader, indices: npt.NDArray[np.int64]) -> Examples:
        activations = reader.read(indices, frozen=self._frozen)
        labels = torch.from_numpy(self._images.labels[indices]).to(self._device)
        devices.synchronize(self._device)
        return Examples(activations, labels)

    def _reader(self, augmentation: Augmentation | None = None) -> FeatureReader:
        return FeatureReader(
            self._images,
            self._backbone,
            image_size=self._image_size,
            device=self._device,
            precision=devices.resolve_precision(self._spec.precision, self._device),
            cache=self._cache,
            augmentation=augmentation,
            seed=self._spec.seed,
            counts=self.counts,
            heartbeat=self._heartbeat,
        )
