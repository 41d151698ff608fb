"""Cuts that hand over several tensors, in networks whose decoders look back at their encoders."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from tests.trainable.families import disturb, some
from trainable.backbones.cutting import cut_points
from trainable.backbones.cutting.boundaries import boundaries, parameter_depths
from trainable.backbones.cutting.split import frozen_between, split
from trainable.backbones.graphs.graph import TracedBackbone, trace
from trainable.errors import BackboneError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64
DENSE = {
    "lraspp_mobilenet_v3_large": (18, 2),
    "deeplabv3_mobilenet_v3_large": (22, 3),
    "fcn_resnet50": (18, 1),
    "fcn_resnet101": (35, 1),
    "deeplabv3_resnet50": (20, 1),
    "deeplabv3_resnet101": (37, 1),
}
"""Number of boundaries of torchvision's networks, and most tensors that one of them hands over."""
SMALL = ("lraspp_mobilenet_v3_large",)


class Convolutions(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.GroupNorm(2, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = Convolutions(inputs + outputs, outputs)

    def forward(self, deep: Tensor, skipped: Tensor) -> Tensor:
        enlarged = functional.interpolate(deep, size=skipped.shape[-2:], mode="bilinear")
        return self.convolutions(torch.cat([enlarged, skipped], dim=1))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """A small U-Net of three levels."""

    def __init__(self, widths: tuple[int, ...] = (4, 8, 16, 24)) -> None:
        super().__init__()
        self.first = Convolutions(3, widths[0])
        self.downs = nn.ModuleList(Convolutions(a, b) for a, b in itertools.pairwise(widths))
        self.ups = nn.ModuleList(Up(b, a) for a, b in reversed([*itertools.pairwise(widths)]))
        self.head = nn.Conv2d(widths[0], 5, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        found = [self.first(images)]
        for down in self.downs:
            found.append(down(functional.max_pool2d(found[-1], 2)))
        deep = found.pop()
        for up in self.ups:
            deep = up(deep, found.pop())
        return self.head(deep)  # type: ignore[no-any-return]


def dense(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "unet":
        return UNet().eval()
    model: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=5, aux_loss=False
    )
    with torch.random.fork_rng(devices=[]):
        disturb(model, head="classifier")
    return model.eval()


def check_equal(model: nn.Module, traced: TracedBackbone, places: list[int]) -> None:
    """Both halves are the model, to the bit, and a prefix between two cuts is what is between."""
    found = boundaries(traced)
    batches = [torch.randn(batch, 3, SIZE, SIZE) for batch in (1, 2)]
    with torch.no_grad():
        values = [model(images) for images in batches]
    expected = [value["out"] if isinstance(value, dict) else value for value in values]
    for frozen in places:
        halves = split(traced, frozen=frozen, num_classes=7)
        for head in halves.heads:
            halves.suffix.set_submodule(head, model.get_submodule(head))
        halves.suffix.eval()
        for images, logits in zip(batches, expected, strict=True):
            with torch.no_grad():
                activations = halves.prefix(images.clone())
                if frozen:
                    assert activations.shape[1:] == found[frozen - 1].shape
                if frozen > 1:
                    first, last = found[frozen - 2], found[frozen - 1]
                    before = frozen_between(traced, None, first)(images.clone())
                    assert torch.equal(frozen_between(traced, first, last)(before), activations)
                assert torch.equal(halves.suffix(activations), logits), frozen
    assert not torch.equal(expected[1][0], expected[1][1])


@pytest.mark.parametrize(
    "name",
    ["unet", *(n if n in SMALL else pytest.param(n, marks=pytest.mark.shelf) for n in DENSE)],
)
def test_the_two_halves_of_a_dense_network_are_the_network_at_every_boundary(name: str) -> None:
    model = dense(name)
    traced = trace(model, image_size=SIZE, dense=True)
    count = len(boundaries(traced))
    check_equal(model, traced, [*(range(count + 1) if name == "unet" else some(count))])


@pytest.mark.parametrize("name", DENSE)
def test_boundaries_of_dense_networks_hand_over_as_few_tensors_as_they_can(name: str) -> None:
    with torch.device("meta"):
        model = dense(name)
    found = boundaries(trace(model, image_size=SIZE, dense=True))
    assert (len(found), max(len(one.tensors) or 1 for one in found)) == DENSE[name]


def test_a_decoder_that_looks_back_is_cut_between_its_blocks() -> None:
    traced = trace(UNet().eval(), image_size=SIZE, dense=True)
    found = boundaries(traced)
    nodes = {node.name: node for node in traced.module.graph.nodes}
    assert [str(nodes[one.node].target) for one in found] == [
        "first.4",
        "downs.0.4",
        *(f"ups.{level}.convolutions.4" for level in range(3)),
    ]
    # What is enlarged and joined is larger than what it is made of.
    assert [len(one.tensors) or 1 for one in found] == [1, 2, 3, 2, 1]
    depths = parameter_depths(traced)
    assert [depths[f"ups.{level}.convolutions.0.weight"] for level in range(3)] == [3, 2, 1]


def test_where_less_is_dear_stretches_are_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_points, "_DEAR", 0.05)
    found = boundaries(trace(UNet().eval(), image_size=SIZE, dense=True))
    assert [len(one.tensors) or 1 for one in found] == [1, 2, 3, 3, 3, 2, 1]


@pytest.mark.parametrize("name", ["unet", *SMALL])
def test_the_last_boundary_of_a_dense_network_leaves_its_heads_alone(name: str) -> None:
    traced = trace(dense(name), image_size=SIZE, dense=True)
    last = split(traced, frozen=len(boundaries(traced)), num_classes=3)
    assert {name for name, _ in last.suffix.named_parameters()} == {
        f"{head}.{leaf}" for head in last.heads for leaf in ("weight", "bias")
    }


def test_a_network_whose_output_comes_from_another_layer_is_no_dense_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2)).eval()
    with pytest.raises(BackboneError, match="without groups"):
        trace(model, image_size=16, dense=True)
    with pytest.raises(BackboneError, match="from heads alone, but from"):
        trace(nn.ReLU(), image_size=16, dense=True)


def test_a_classifier_with_two_heads_is_refused_and_a_dense_network_with_two_is_not() -> None:
    model = dense("lraspp_mobilenet_v3_large")
    traced = trace(model, image_size=SIZE, dense=True)
    assert [str(head.target) for head in traced.heads] == [
        "classifier.low_classifier",
        "classifier.high_classifier",
    ]
    with pytest.raises(BackboneError, match="allowed: one head"):
        _ = traced.head
    halves = split(traced, frozen=3, num_classes=4)
    assert halves.suffix(halves.prefix(torch.randn(2, 3, SIZE, SIZE))).shape == (2, 4, SIZE, SIZE)
