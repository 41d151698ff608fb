"""A graph that travelled is the one that set out, to the bit and to the name of its nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainable.backbones.graphs.test_graph import FunctionalDropout, ProbabilityByMode, Small
from tests.trainable.families import FAMILIES, case_of, fill
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import boundaries, parameter_depths
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs import transport
from trainable.backbones.graphs.graph import TracedBackbone, trace
from trainable.backbones.graphs.pickling import Arrays
from trainable.backbones.graphs.transport import from_bytes, to_bytes
from trainable.features import feature_keys


def arrays_of(model: nn.Module) -> dict[str, npt.NDArray[np.generic]]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def sent(traced: TracedBackbone, arrays: Arrays) -> TracedBackbone:
    """The graph as it arrives in a process that has the arrays."""
    content = to_bytes(traced, arrays)
    assert content is not None
    return from_bytes(content, arrays)


def assert_same(arrived: TracedBackbone, traced: TracedBackbone, size: int) -> None:
    """What is asked of a graph has the same answers, and what it computes the same bits."""
    assert feature_keys.graph_digest(arrived) == feature_keys.graph_digest(traced)
    assert arrived.head.name == traced.head.name
    assert boundaries(arrived) == boundaries(traced)
    assert parameter_depths(arrived) == parameter_depths(traced)
    assert [(node.name, facts.shape) for node, facts in arrived.facts.items()] == [
        (node.name, facts.shape) for node, facts in traced.facts.items()
    ]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    results = []
    for each in (arrived, traced):
        halves = split(each, frozen=len(boundaries(each)) // 2, num_classes=3)
        torch.manual_seed(1)
        fill(halves.suffix.get_submodule(halves.head))
        results.append(halves.suffix.train()(halves.prefix(images)))
    assert torch.equal(*results)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_arrives_as_it_was(family: str) -> None:
    model, traced, size = case_of(family)
    assert_same(sent(traced, arrays_of(model)), traced, size)


class Constants(Small):
    """Numbers that no state dict has: a tensor made on the way, and one that is not to be saved."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.rand(8, 1, 1), persistent=False)

    def between(self, x: Tensor) -> Tensor:
        return x * self.scale + torch.linspace(0, 1, 16)


class Pooled(Small):
    """A function of torch's that does not know where it lies."""

    def between(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(x, (1, 1)), 2)


@pytest.mark.parametrize("make", [Small, FunctionalDropout, ProbabilityByMode, Constants, Pooled])
def test_code_of_the_users_own_arrives_as_it_was(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    assert_same(
        sent(trace(model, image_size=16), arrays_of(model)), trace(model, image_size=16), 16
    )


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.second(self.first(images).relu()).relu().mean(dim=(2, 3)))
        return logits


def test_tied_weights_stay_tied() -> None:
    model = Tied().eval()
    module = sent(trace(model, image_size=8), arrays_of(model)).module
    assert module.get_parameter("first.weight") is module.get_parameter("second.weight")


def test_weights_stay_behind_and_those_that_differ_travel() -> None:
    model = Small().eval()
    arrays = arrays_of(model)
    traced = trace(model, image_size=16)
    alone = to_bytes(traced, arrays)
    bias = model.get_parameter("second.bias")
    with torch.no_grad():
        bias.add_(1)
    changed = to_bytes(traced, arrays)
    assert alone is not None
    assert changed is not None
    assert arrays["second.weight"].tobytes() not in alone
    assert arrays["second.bias"].tobytes() not in alone
    arrived = from_bytes(changed, arrays).module
    assert torch.equal(arrived.get_parameter("second.bias"), bias)
    assert arrays["second.weight"].tobytes() not in changed


def test_arrays_are_never_written_to() -> None:
    model = Small().eval()
    arrays = arrays_of(model)
    for array in arrays.values():
        array.flags.writeable = False
    module = sent(trace(model, image_size=16), arrays).module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert np.any(arrays["first.weight"])


def test_the_values_of_the_head_are_nobodys_business() -> None:
    model = Small().eval()
    arrays = {name: a for name, a in arrays_of(model).items() if not name.startswith("head.")}
    arrived = sent(trace(model, image_size=16), arrays)
    assert not arrived.module.get_parameter("head.weight").any()


def local_class() -> nn.Module:
    class Layer(nn.Conv2d):
        pass

    model = Small()
    model.first = Layer(3, 8, 3, padding=1)
    return model


def test_what_could_not_be_imported_does_not_travel() -> None:
    model = local_class().eval()
    assert to_bytes(trace(model, image_size=16), arrays_of(model)) is None


def test_what_would_arrive_as_other_code_does_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    model, traced, _ = case_of("swin")
    monkeypatch.setattr(transport, "_KEPT_META", ())
    assert to_bytes(traced, arrays_of(model)) is None


def test_where_a_graph_arrived_nothing_is_built_or_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_weights("tiny_strokes")
    driver = Backbone(weights)
    first = driver.traced(8)
    monkeypatch.setattr(Backbone, "_trace", None)
    assert_same(Backbone(weights, driver.graphs).traced(8), first, 8)


def test_where_none_arrived_the_network_is_traced_here(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_weights("tiny_strokes")
    driver = Backbone(weights)
    first = driver.traced(8)
    monkeypatch.setattr(transport, "_parcel", None)
    assert driver.graphs == {}
    assert_same(Backbone(weights, driver.graphs).traced(8), first, 8)
