"""Features of the baselines: activations of a frozen backbone, raw pixels, or tf-idf of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainable import device as devices
from trainable.backbones import Backbone, Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.cache import FeatureCache
from trainable.features.input_reader import InputReader
from trainable.features.reader import FeatureCounts, Indices
from trainable.features.readers import FeatureReaders
from trainable.micro_batches import nothing
from trainable.modalities import modality_of
from trainable.modalities.image.inputs import PixelInputs
from trainable.modalities.image.preprocessing import smallest_side
from trainable.modalities.text.decoding import decode_text
from trainable.modalities.text.tfidf import tfidf_rows
from trainable.tasks import Outcomes, Places, task_called
from trainable.training.baseline_request import BaselineRequest, FeatureOrigin
from trainable.training.logistic import LinearClassifier
from trainable.training.probe import Features, fixed

MAX_PIXELS = 32
"""Largest side, in pixels, of the images that the `pixels` baseline sees."""


class BaselineFeatures(FeatureOrigin, Protocol):
    """Feature vectors for a baseline."""

    def of(self, indices: Indices) -> Features:
        """Return the features of some examples, addressed by their positions within `indices`.

        Args:
            indices: (M,) int64 indices of the examples.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """


class FrozenFeatures:
    """The inputs of a backbone's head as features; see `BaselineFeatures`.

    Args:
        examples: the examples, with their encoded bytes.
        backbone: the backbone, which is not trained.
        size: size of the backbone's input; None for the size of its weights.
        precision: `fp32`, `bf16` or `auto`.
        device: the device to compute on.
        cache: the feature cache; None computes the features here.
        counts: counters to add to; None for new ones.
        heartbeat: called regularly while there is progress.
    """

    def __init__(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int | None = None,
        precision: str = "auto",
        device: torch.device | None = None,
        cache: FeatureCache | None = None,
        counts: FeatureCounts | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        device = device or devices.default_device()
        size = modality_of(examples, backbone.weights).size(backbone.weights, size)
        self.size: int | None = size
        self.precision = devices.resolve_precision(precision, device)
        self._reader = FeatureReaders(
            examples,
            backbone,
            size=size,
            device=device,
            precision=self.precision,
            cache=cache,
            counts=counts,
            heartbeat=heartbeat,
        )
        self.key: Mapping[str, Any] = self._reader.head_inputs_key

    def rows(self, indices: Indices) -> Tensor:
        """Return the (M, D) features of some examples, given their (M,) indices."""
        return self._reader.head_inputs(indices)

    def of(self, indices: Indices) -> Features:
        """See `BaselineFeatures`."""
        return fixed(self.rows(indices))


class PixelFeatures:
    """RGB pixels in 0..1 as features; see `BaselineFeatures`.

    The side of all images is that of the smallest image, and at most `MAX_PIXELS`.

    Args:
        images: the images, with their encoded bytes.
        touched: (M,) indices of all images that will be asked for.
        device: the device that features are put on.
        cache: the feature cache; None decodes the images here.
        heartbeat: called regularly while there is progress.
    """

    precision: str = "fp32"

    def __init__(
        self,
        images: LabelledExamples,
        touched: Indices,
        *,
        device: torch.device,
        cache: FeatureCache | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        side = min(MAX_PIXELS, smallest_side(images, touched))
        self.size: int | None = side
        inputs = PixelInputs(images, Preprocessing(side, side))
        self.key: Mapping[str, Any] = {"pixels": inputs.key}
        self._device = device
        self._reader = InputReader(inputs, images.digests, cache=cache, heartbeat=heartbeat)

    def of(self, indices: Indices) -> Features:
        """See `BaselineFeatures`."""
        rows, _ = self._reader.read(indices)
        return fixed(torch.from_numpy(rows).to(self._device).flatten(1).float() / 255)


class TfidfFeatures:
    """Tf-idf of texts as features; see `BaselineFeatures`.

    The vocabulary is built from the training texts alone.

    Args:
        texts: the texts, with their encoded bytes.
        touched: (M,) indices of all texts that will be asked for; not used.
        device: the device that features are put on.
        cache: not used, because features depend on the choice of training texts.
        heartbeat: called once for each vocabulary.
    """

    size: int | None = None
    precision: str = "fp32"
    key: Mapping[str, Any] = {"tfidf": 1}

    def __init__(
        self,
        texts: LabelledExamples,
        touched: Indices,
        *,
        device: torch.device,
        cache: FeatureCache | None = None,
        heartbeat: Callable[[], None] = nothing,
    ) -> None:
        del touched, cache
        self._texts = texts
        self._device = device
        self._heartbeat = heartbeat

    def of(self, indices: Indices) -> Features:
        """See `BaselineFeatures`."""
        texts = [decode_text(self._texts.encoded(int(index))) for index in indices]

        def features(training: Indices, others: Indices) -> tuple[Tensor, Tensor]:
            self._heartbeat()
            fitted, unseen = tfidf_rows(
                [texts[position] for position in training],
                [texts[position] for position in others],
            )
            return (
                torch.from_numpy(fitted).to(self._device),
                torch.from_numpy(unseen).to(self._device),
            )

        return features


_WITHOUT_BACKBONE: Mapping[str, type[PixelFeatures] | type[TfidfFeatures]] = {
    "image": PixelFeatures,
    "text": TfidfFeatures,
}
"""Modality -> features of the baseline that uses no backbone."""


class FeatureBaseline:
    """A baseline that classifies examples by a vector of features; see `Baseline`."""

    def __init__(self, asked: BaselineRequest) -> None:
        examples, touched = asked.examples, asked.touched
        made: BaselineFeatures = (
            _WITHOUT_BACKBONE[examples.modality](
                examples,
                touched,
                device=asked.device,
                cache=asked.cache,
                heartbeat=asked.heartbeat,
            )
            if asked.backbone is None
            else FrozenFeatures(
                examples,
                asked.backbone,
                size=asked.size,
                precision=asked.precision,
                device=asked.device,
                cache=asked.cache,
                counts=asked.counts,
                heartbeat=asked.heartbeat,
            )
        )
        self.size = made.size
        self.precision = made.precision
        self.key = made.key
        self._features = made.of(touched)
        self._touched = touched
        self._targets = partial(
            task_called(examples.task).targets, examples, size=made.size or 0, device=asked.device
        )

    def features(self, indices: Indices, places: Places | None) -> Features:
        """See `Baseline`."""
        assert places is None
        rows = np.searchsorted(self._touched, indices)
        return lambda train, others: self._features(rows[train], rows[others])

    def outcomes(self, classifier: LinearClassifier, drawn: Indices, indices: Indices) -> Outcomes:
        """See `Baseline`."""
        train, others = (np.searchsorted(self._touched, some) for some in (drawn, indices))
        _, unseen = self._features(train, others)
        return self._targets(indices).outcomes(classifier.to(unseen.device).logits(unseen))
