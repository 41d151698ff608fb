"""Dense networks whose encoder is a backbone for classification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.decoders import MOST_MAPS
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.errors import BackboneError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"tiny_strokes": 32, "mobilenet_v3_small@none": 64}
"""Encoders, and the sides of their inputs here."""

DECODER = "unet_decoder."


@pytest.fixture(scope="module", params=SIZES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone(load_weights(request.param, task="segmentation"))


@pytest.fixture(scope="module")
def traced(backbone: Backbone) -> TracedBackbone:
    return backbone.traced(SIZES[backbone.weights.backbone])


def images_of(traced: TracedBackbone, batch: int) -> Tensor:
    (size,) = traced.sizes
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


def targets_of(traced: TracedBackbone, names: list[str]) -> list[str]:
    """Names of the layers of some nodes."""
    nodes = {node.name: node for node in traced.module.graph.nodes}
    return [str(nodes[name].target) for name in names]


def test_the_two_halves_are_the_whole_at_every_boundary(traced: TracedBackbone) -> None:
    found = boundaries(traced)
    batches = [images_of(traced, batch) for batch in (1, 2)]
    with torch.no_grad():
        expected = [traced.module(images) for images in batches]
    (size,) = traced.sizes
    assert expected[1].shape == (2, 1, size, size)
    assert expected[0].std() > 0
    for frozen in range(len(found) + 1):
        halves = split(traced, frozen=frozen, num_classes=1)
        for head in halves.heads:
            halves.suffix.set_submodule(head, traced.module.get_submodule(head))
        halves.suffix.eval()
        for images, logits in zip(batches, expected, strict=True):
            with torch.no_grad():
                activations = halves.prefix(images.clone())
                if frozen:
                    assert activations.shape[1:] == found[frozen - 1].shape
                assert torch.equal(halves.suffix(activations), logits), frozen


def test_the_maps_and_the_end_of_every_block_are_boundaries(
    backbone: Backbone, traced: TracedBackbone
) -> None:
    maps = list(backbone.weights.args["maps"])
    assert 1 < len(maps) <= MOST_MAPS
    found = [boundary.node for boundary in boundaries(traced)]
    assert set(maps) <= set(found)
    behind = found[found.index(maps[-1]) + 1 :]
    blocks = [f"{DECODER}blocks.{level}.relu" for level in reversed(range(len(maps) - 1))]
    assert targets_of(traced, behind) == blocks
    assert not any(
        target.startswith(DECODER) for target in targets_of(traced, found[: -len(behind)])
    )


def test_boundaries_of_the_encoder_are_those_of_the_classifier(
    backbone: Backbone, traced: TracedBackbone
) -> None:
    name = backbone.weights.backbone
    alone = Backbone(load_weights(name)).traced(SIZES[name])
    own = [boundary.node for boundary in boundaries(alone)]
    found = [boundary.node for boundary in boundaries(traced)]
    last = found.index(backbone.weights.args["maps"][-1])
    # The map before a pooling is no boundary of the classifier, whose pooled features are.
    assert [node for node in found[:last] if node not in own] == []
    assert found[:last] == own[:last]


def test_weights_are_those_of_the_encoder_and_the_same_of_the_decoder_in_every_load(
    backbone: Backbone,
) -> None:
    name = backbone.weights.backbone
    encoder = load_weights(name).arrays
    torch.manual_seed(1234)
    again = load_weights(name, task="segmentation")
    assert again.digest == backbone.weights.digest
    arrays = backbone.weights.arrays
    assert {one for one in arrays if not one.startswith(DECODER)} <= set(encoder)
    for one, array in arrays.items():
        assert np.array_equal(again.arrays[one], array)
        if one in encoder:
            assert np.array_equal(encoder[one], array)


def test_at_the_last_boundary_heads_are_trained_alone(
    backbone: Backbone, traced: TracedBackbone
) -> None:
    last = split(traced, frozen=len(boundaries(traced)), num_classes=3)
    maps = backbone.weights.args["maps"]
    heads = (f"{DECODER}head", *(f"{DECODER}heads.{level}" for level in range(len(maps))))
    assert set(last.heads) == set(heads)
    assert {name for name, _ in last.suffix.named_parameters()} == {
        f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")
    }
    assert all(isinstance(last.suffix.get_submodule(head), nn.Conv2d) for head in heads)
    images = images_of(traced, 2)
    assert last.suffix(last.prefix(images)).shape == (2, 3, *images.shape[2:])


def test_a_backbone_travels_as_its_graph(backbone: Backbone, traced: TracedBackbone) -> None:
    (size,) = traced.sizes
    graphs = backbone.graphs
    assert graphs
    arrived = Backbone(backbone.weights, graphs).traced(size)
    assert arrived is not traced
    assert boundaries(arrived) == boundaries(traced)
    assert arrived.head_names == traced.head_names
    images = images_of(traced, 2)
    last = split(traced, frozen=len(boundaries(traced)), num_classes=1).prefix(images)
    assert last.std() > 0
    there = split(arrived, frozen=len(boundaries(arrived)), num_classes=1)
    assert torch.equal(there.prefix(images), last)
    for head in there.heads:  # those of the graph are left behind
        there.suffix.set_submodule(head, traced.module.get_submodule(head))
    with torch.no_grad():
        assert torch.equal(there.suffix.eval()(last), traced.module(images))


def test_the_decoder_sees_the_whole_image_as_a_square(backbone: Backbone) -> None:
    preprocessing = backbone.weights.image_preprocessing
    assert preprocessing.squash
    assert preprocessing.resize_size == preprocessing.image_size


def test_maps_lie_before_a_head_that_is_a_convolution() -> None:
    weights = load_weights("squeezenet1_1@none", task="segmentation")
    encoder = {name for name in weights.arrays if not name.startswith(DECODER)}
    assert encoder
    assert not any(name.startswith("classifier.") for name in encoder)


def test_a_network_that_takes_channels_apart_is_an_encoder() -> None:
    weights = load_weights("shufflenet_v2_x0_5@none", task="segmentation")
    assert len(weights.args["maps"]) > 1


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"^vit_b_16@none: has no maps of features that a dec"):
        load_weights("vit_b_16@none", task="segmentation")


def test_a_network_for_segmentation_is_refused_for_classification() -> None:
    name = "lraspp_mobilenet_v3_large@none"
    assert load_weights(name, task="segmentation").task == "segmentation"
    with pytest.raises(BackboneError, match="is for segmentation of images, and cannot be trained"):
        load_weights(name)


def test_the_same_weights_serve_images_of_any_size() -> None:
    backbone = Backbone(load_weights("mobilenet_v3_small@none", task="segmentation"))
    for size in (50, 96):
        module = backbone.traced(size).module
        with torch.no_grad():
            assert module(torch.zeros(1, 3, size, size)).shape == (1, 1, size, size)
