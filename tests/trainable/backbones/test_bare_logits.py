"""What follows the head of a backbone and is no part of the new network."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import SplitBackbone, split
from trainable.backbones.graphs.graph import TracedBackbone, trace
from trainable.training.head_learner import is_bare_head

NUM_CLASSES = 4


class Ending(nn.Module):
    """A convolution, a head of 1 x 1, and whatever a test puts behind it."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Conv2d(8, 5, 1)
        self.temperature = nn.Parameter(torch.ones(()))
        self.end = end

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self.head(self.conv(images).relu()))


class Temperature(Ending):
    def __init__(self) -> None:
        super().__init__(lambda x: x.mean((2, 3)) / self.temperature.exp())


class LinearEnding(nn.Module):
    """As networks for log likelihoods end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return functional.log_softmax(self.head(self.conv(images).relu().mean((2, 3))), dim=1)


def traced(model: nn.Module, *, size: int = 16) -> TracedBackbone:
    return trace(model.eval(), image_size=size)


def behind_the_head(halves: SplitBackbone) -> list[str]:
    names = [node.name for node in halves.suffix.graph.nodes if node.op != "output"]
    return names[names.index(halves.head.replace(".", "_")) + 1 :]


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def softmax_by_hand(x: Tensor) -> Tensor:
    shares = pooled(x).exp()
    return shares / shares.sum(1, keepdim=True)


GO: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": pooled,
    "relu": lambda x: pooled(functional.relu(x)),
    "relu, in place": lambda x: pooled(x.relu_()),
    "softmax": lambda x: pooled(x).softmax(1),
    "log_softmax": lambda x: functional.log_softmax(pooled(x), dim=1),
    "sigmoid": lambda x: torch.sigmoid(pooled(x)),
    "dropout": lambda x: pooled(functional.dropout(x, 0.5, training=False)),
    "a layer of dropout": nn.Sequential(nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "a constant scale": lambda x: pooled(x) * 100.0 - 1.0,
    "several in a row": lambda x: (pooled(x.clamp(0, 6)) / 3).tanh(),
    "SiLU by hand": lambda x: pooled(x * x.sigmoid()),
    "softmax by hand": softmax_by_hand,
    "unit length": lambda x: functional.normalize(pooled(x)),
}


IDLE = {"nothing", "dropout", "a layer of dropout"}
"""After training the model itself computes what remains."""


@pytest.mark.parametrize("end", GO)
def test_what_keeps_the_shape_of_the_logits_goes(end: str) -> None:
    torch.manual_seed(0)
    graph = traced(Ending(GO[end]))
    images = torch.randn(6, 3, 16, 16)
    for frozen in range(len(boundaries(graph)) + 1):
        halves = split(graph, frozen=frozen, num_classes=NUM_CLASSES)
        assert halves.bare_logits is (end not in IDLE)
        assert set(behind_the_head(halves)) <= {"mean", "end_1", "end_2"}  # pooling, to a vector
        head = cast("nn.Conv2d", halves.suffix.get_submodule(halves.head))
        nn.init.normal_(head.weight)
        features = graph.module.get_submodule("conv")(images).relu()
        with torch.no_grad():
            assert torch.allclose(halves.suffix(halves.prefix(images)), pooled(head(features)))


STAY: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "pooling": (lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), ["pool", "flatten"]),
    "squeeze": (lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1), ["squeeze"]),
    "two branches of another shape": (lambda x: x.amax((2, 3)) + x.relu().mean((2, 3)), ["relu"]),
}


@pytest.mark.parametrize("end", STAY)
def test_what_gives_the_logits_their_shape_stays(end: str) -> None:
    make, names = STAY[end]
    graph = traced(Ending(make))
    halves = split(graph, frozen=1, num_classes=NUM_CLASSES)
    assert not halves.bare_logits
    assert all(any(name in found for found in behind_the_head(halves)) for name in names)
    assert halves.suffix(halves.prefix(torch.randn(2, 3, 16, 16))).shape == (2, NUM_CLASSES)


def test_what_is_learnt_behind_the_head_stays() -> None:
    halves = split(traced(Temperature()), frozen=1, num_classes=NUM_CLASSES)
    assert not halves.bare_logits
    assert "temperature" in dict(halves.suffix.named_parameters())


def test_a_linear_head_before_a_log_softmax_is_a_bare_head() -> None:
    graph = traced(LinearEnding())
    halves = split(graph, frozen=len(boundaries(graph)), num_classes=NUM_CLASSES)
    assert is_bare_head(halves.suffix, halves.heads)


@pytest.mark.parametrize("build", [models.squeezenet1_0, models.squeezenet1_1])
def test_logits_of_squeezenet_may_be_negative(build: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = build(weights=None).eval()
    graph = traced(model, size=64)
    halves = split(graph, frozen=len(boundaries(graph)), num_classes=NUM_CLASSES)
    assert behind_the_head(halves) == ["classifier_3", "flatten"]  # pooling, to a vector
    nn.init.normal_(halves.suffix.get_submodule(halves.head).get_parameter("weight"))
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        logits = halves.suffix(halves.prefix(images))
        assert (model(images) >= 0).all()
    assert logits.shape == (8, NUM_CLASSES)
    assert (logits < 0).any()
    assert (logits > 0).any()
