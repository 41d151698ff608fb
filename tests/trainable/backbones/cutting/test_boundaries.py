import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.graphs.graph import TracedBackbone, trace
from trainable.errors import BackboneError


def nodes(traced: TracedBackbone) -> list[str]:
    return [boundary.node for boundary in boundaries(traced)]


class Block(nn.Module):
    """Two convolutions, with a skip around them where the channels stay."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, out_channels, 3, padding=1)
        self.skips = channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return (x + y if self.skips else y).relu()


class Stage(nn.Module):
    """Blocks one after the other, perhaps just one."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.start = nn.Identity()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.blocks(self.start(x))
        return result


class Net(nn.Module):
    def __init__(self, *stages: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(images).relu()).mean(dim=(2, 3)))
        return logits


def traced(model: nn.Module, image_size: int = 8) -> TracedBackbone:
    torch.manual_seed(0)
    return trace(model.eval(), image_size=image_size)


def test_values_are_those_of_the_images_and_of_every_node_that_does_something() -> None:
    places = 8 * 8
    stem = 3 * places + 2 * 4 * places  # the images, the convolution, its activation
    block = (2 * 8 + 3 * 4) * places
    first, last = boundaries(traced(Net(Stage(Block(4, 4)), channels=4)))
    assert first.node == "stages_0_start"  # which does nothing
    assert (first.values, last.values) == (stem, stem + block + 4)


def test_a_block_that_lacks_its_skip_is_not_cut_inside_where_others_of_its_class_cannot_be() -> (
    None
):
    found = nodes(traced(Net(Block(4, 4), Block(4, 6), Block(6, 6), channels=6)))
    assert found == ["relu", "relu_2", "relu_4", "mean"]


def test_blocks_that_all_can_be_cut_inside_are() -> None:
    found = nodes(traced(Net(Block(4, 5), Block(5, 6), channels=6)))
    assert found == ["relu", "relu_1", "relu_2", "relu_3", "mean"]


def test_a_stage_of_one_block_does_not_make_stages_blocks() -> None:
    stages = Stage(Block(4, 4)), Stage(Block(4, 6), Block(6, 6), Block(6, 6))
    found = nodes(traced(Net(*stages, channels=6)))
    assert found == ["stages_0_start", "stages_1_start", "relu_4", "relu_6", "mean"]


def test_containers_are_no_blocks() -> None:
    inside = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: Tensor) -> Tensor:
            inside: Tensor = self.inside(x)
            return x + inside

    plain = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    found = nodes(traced(Net(Skip(), plain, channels=4)))
    assert found == ["relu", "add", "stages_1_1", "mean"]


def test_every_inverted_residual_of_mobilenet_is_one_block() -> None:
    found = nodes(traced(models.mobilenet_v2(weights=None), image_size=32))
    assert len(found) == 1 + 17 + 1  # the stem, the blocks, the pooled features
    assert "features_2_conv_3" in found
    assert not [name for name in found if "_conv_0_" in name or "_conv_1_" in name]


def test_attention_and_mlp_of_a_transformer_are_parted() -> None:
    vit = models.VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)
    assert len(nodes(traced(vit, image_size=32))) == 1 + 2 * 3


class OnPixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images).mean(dim=(2, 3))
        return logits


def test_model_that_cannot_be_cut_says_so() -> None:
    with pytest.raises(BackboneError, match="no place to cut before its head"):
        boundaries(trace(OnPixels(), image_size=16))
