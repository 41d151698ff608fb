"""Features of places are what heads turn into the logits of these places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.builders.masked_examples import masked_examples
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.features.head_maps import HeadMaps, features_at, features_of
from trainable.features.readers import FeatureReaders
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.training.logistic import LinearClassifier

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SIZES = {"tiny_strokes": 32, "lraspp_mobilenet_v3_large@none": 64}
"""Backbones, and the sides of their inputs here."""
ROWS = np.array([3, 1, 4])
NUM_CLASSES = 3


def pixel_centres(size: int) -> Tensor:
    """(size * size, 2) places, line by line."""
    middles = (2 * torch.arange(size) + 1) / size - 1
    lines, columns = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack([columns, lines], dim=2).reshape(-1, 2)


@pytest.mark.parametrize("name", SIZES)
def test_features_of_pixels_times_the_weights_of_heads_are_the_logits(name: str) -> None:
    size = SIZES[name]
    backbone = Backbone(load_weights(name, task="segmentation"))
    traced = backbone.traced(size)
    examples = masked_examples()
    readers = FeatureReaders(
        examples, backbone, size=size, device=CPU, precision="fp32", cache=None
    )
    maps = HeadMaps(readers, backbone, size=size, device=CPU)
    points = pixel_centres(size).expand(len(ROWS), -1, -1)
    features = features_of(maps.of(ROWS), points)
    assert features.shape[:2] == (len(ROWS), size * size)
    random = torch.Generator().manual_seed(0)
    classifier = LinearClassifier(
        weight=torch.randn(NUM_CLASSES, features.shape[2], generator=random).double(),
        bias=torch.randn(NUM_CLASSES, generator=random).double(),
    )
    expected = classifier.logits(features)
    scale = float(expected.std())
    pixels = normalize(
        decode(examples, ROWS, backbone.weights.image_preprocessing.resized(size)),
        backbone.weights.image_preprocessing,
    )
    for frozen in (0, len(boundaries(traced))):
        halves = split(traced, frozen=frozen, num_classes=NUM_CLASSES)
        classifier.copy_into(*(halves.suffix.get_submodule(head) for head in halves.heads))
        halves.suffix.eval()
        with torch.no_grad():
            logits = halves.suffix(halves.prefix(pixels.clone()))
        found = logits.permute(0, 2, 3, 1).flatten(1, 2).double()
        assert float((found - expected).abs().max()) < 1e-4 * max(1, scale)


def test_maps_of_an_image_do_not_depend_on_others() -> None:
    backbone = Backbone(load_weights("tiny_strokes", task="segmentation"))
    readers = FeatureReaders(
        masked_examples(), backbone, size=32, device=CPU, precision="fp32", cache=None
    )
    maps = HeadMaps(readers, backbone, size=32, device=CPU)
    for together, row in zip(maps.of(ROWS), ROWS, strict=True):
        (alone,) = maps.of(np.array([row]))
        assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_features_between_pixels_are_interpolated_and_those_beyond_are_of_the_border() -> None:
    fine = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    coarse = torch.tensor([[[[5.0]], [[7.0]]]])
    points = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.0, 0.0], [-1.0, 1.0]])
    found = features_at([fine, coarse], points)
    assert found.tolist() == [[0, 5, 7], [1, 5, 7], [1.5, 5, 7], [2, 5, 7]]
