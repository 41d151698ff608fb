"""Baselines of dense predictions: logistic regression on what is known of single places.

They are fitted on sampled places and predict maps, which are scored as those of trials are. A probe
takes the maps that the heads of a network take, so that it is a trial at freeze depth 1 before its
first update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from trainable import device as devices
from trainable.backbones import Backbone, Preprocessing
from trainable.features.head_maps import HeadMaps, features_of
from trainable.features.input_reader import InputReader
from trainable.features.reader import Indices
from trainable.features.readers import FeatureReaders
from trainable.modalities import modality_of
from trainable.modalities.image.inputs import PixelInputs
from trainable.modalities.image.preprocessing import smallest_side
from trainable.tasks import Outcomes, Places, joined, task_called
from trainable.training.baseline_request import BaselineRequest
from trainable.training.logistic import LinearClassifier
from trainable.training.probe import Features, fixed

MAX_PIXELS = 96
"""Largest side, in pixels, of the images that the `pixels` baseline sees."""

PATCH = 5
"""Side, in pixels, of the patch around a place that the `pixels` baseline sees."""


class Maps(Protocol):
    """Maps of features, for a baseline.

    Attributes:
        size: side of the input that maps are computed from, and of the map that is predicted.
        input_size: the same; None where no input is read.
        precision: precision of the forward pass, `fp32` or `bf16`.
        key: JSON values that maps depend on, apart from the examples' content.
    """

    size: int
    input_size: int | None
    precision: str
    key: Mapping[str, Any]

    def of(self, indices: Indices) -> Iterator[Sequence[Tensor]]:
        """Yield one or more (1, D, H, W) maps for each of M images, given their (M,) indices."""


class BackboneMaps:
    """What the heads of a network take; see `Maps`."""

    def __init__(self, asked: BaselineRequest, backbone: Backbone) -> None:
        examples, weights = asked.examples, backbone.weights
        self.size = modality_of(examples, weights).size(weights, asked.size)
        self.input_size: int | None = self.size
        self.precision = devices.resolve_precision(asked.precision, asked.device)
        readers = FeatureReaders(
            examples,
            backbone,
            size=self.size,
            device=asked.device,
            precision=self.precision,
            cache=asked.cache,
            counts=asked.counts,
            heartbeat=asked.heartbeat,
        )
        self.key: Mapping[str, Any] = readers.head_inputs_key
        self._maps = HeadMaps(readers, backbone, size=self.size, device=asked.device)

    def of(self, indices: Indices) -> Iterator[Sequence[Tensor]]:
        """See `Maps`."""
        return self._maps.of(indices)


class PatchMaps:
    """RGB values in 0..1 of the patch around each pixel; see `Maps`.

    The side of all images is that of the smallest image, and at most `MAX_PIXELS`.
    """

    precision: str = "fp32"

    def __init__(self, asked: BaselineRequest) -> None:
        images = asked.examples
        self.size = min(MAX_PIXELS, smallest_side(images, asked.touched))
        self.input_size: int | None = self.size
        inputs = PixelInputs(images, Preprocessing(self.size, self.size, squash=True))
        self.key: Mapping[str, Any] = {"pixels": inputs.key, "patch": PATCH}
        self._device = asked.device
        self._reader = InputReader(
            inputs, images.digests, cache=asked.cache, heartbeat=asked.heartbeat
        )

    def of(self, indices: Indices) -> Iterator[Sequence[Tensor]]:
        """See `Maps`."""
        rows, _ = self._reader.read(indices)
        for row in rows:
            pixels = torch.from_numpy(row).to(self._device)[None].float() / 255
            around = functional.pad(pixels, [PATCH // 2] * 4, mode="replicate")
            patches = functional.unfold(around, PATCH)
            yield [patches.view(1, -1, self.size, self.size)]


class NoMaps:
    """A map of zeros, from which only the frequencies of classes are learnt; see `Maps`."""

    size = 1
    input_size: int | None = None
    precision: str = "fp32"
    key: Mapping[str, Any] = {"majority": 1}

    def __init__(self, asked: BaselineRequest) -> None:
        self._device = asked.device

    def of(self, indices: Indices) -> Iterator[Sequence[Tensor]]:
        """See `Maps`."""
        for _ in indices:
            yield [torch.zeros(1, 1, 1, 1, device=self._device)]


_WITHOUT_BACKBONE: Mapping[str, type[PatchMaps] | type[NoMaps]] = {
    "pixels": PatchMaps,
    "majority": NoMaps,
}
"""Method -> maps of the baseline that uses no backbone."""


class MapBaseline:
    """A baseline that classifies every place by maps of features; see `Baseline`."""

    def __init__(self, asked: BaselineRequest) -> None:
        self._maps: Maps = (
            _WITHOUT_BACKBONE[asked.method or "pixels"](asked)
            if asked.backbone is None
            else BackboneMaps(asked, asked.backbone)
        )
        self.size = self._maps.input_size
        self.precision = self._maps.precision
        self.key = self._maps.key
        self._examples = asked.examples
        self._device = asked.device
        self._heartbeat = asked.heartbeat

    def features(self, indices: Indices, places: Places | None) -> Features:
        """See `Baseline`."""
        assert places is not None
        return fixed(features_of(self._maps.of(indices), places.points))

    def outcomes(self, classifier: LinearClassifier, drawn: Indices, indices: Indices) -> Outcomes:
        """See `Baseline`."""
        del drawn
        classifier = classifier.to(self._device)
        size = self._maps.size
        targets = task_called(self._examples.task).targets(
            self._examples, indices, size=size, device=self._device
        )
        found = []
        for row, maps in enumerate(self._maps.of(indices)):
            here = torch.tensor([row], device=self._device)
            found.append(targets.at(here).outcomes(_logits(classifier, maps, size=size)))
            self._heartbeat()
        return joined(found)


def _logits(classifier: LinearClassifier, maps: Sequence[Tensor], *, size: int) -> Tensor:
    """Return the (1, C, size, size) logits of all places of an image."""
    weights = torch.split(classifier.weight.float(), [one.shape[1] for one in maps], dim=1)
    bias = classifier.bias.float()[:, None, None]
    return bias + sum(
        functional.interpolate(
            functional.conv2d(one, weight[:, :, None, None]), size=(size, size), mode="bilinear"
        )
        for one, weight in zip(maps, weights, strict=True)
    )
