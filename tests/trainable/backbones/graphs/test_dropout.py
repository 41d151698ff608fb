"""Rates of dropout in graphs of text networks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, fx, nn

from tests.trainable.small_text import SmallText, small_text
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.dropout import has_dropout, set_dropout
from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import TracedBackbone

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def traced() -> TracedBackbone:
    return export(small_text(), size=16)


def outputs(suffix: fx.GraphModule, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What a network's features are in train mode, its random draws seeded, and in eval mode."""
    suffix.set_submodule("head", nn.Identity())
    found = []
    for mode in (True, False):
        suffix.train(mode)
        torch.manual_seed(3)
        with torch.no_grad():
            found.append(suffix(*inputs))
    return found[0], found[1]


def batch() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, 50, (5, 16), generator=torch.Generator().manual_seed(0))
    return tokens, torch.ones_like(tokens)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_rate_is_that_of_a_network_built_with_it(traced: TracedBackbone, rate: float) -> None:
    suffix = split(traced, frozen=0, num_classes=2).suffix
    set_dropout(suffix, rate)
    network = small_text(partial(SmallText, rate))
    trained, evaluated = outputs(suffix, *batch())
    with torch.no_grad():
        assert torch.equal(evaluated, network(*batch()))
        torch.manual_seed(3)
        assert torch.equal(trained, network.train()(*batch()))
    assert torch.allclose(trained, evaluated, atol=1e-6) == (rate == 0)


def test_what_is_frozen_and_the_graph_itself_stay_as_they_were(traced: TracedBackbone) -> None:
    code = traced.module.code
    halves = split(traced, frozen=1, num_classes=2)
    before = halves.prefix(*batch())
    set_dropout(halves.suffix, 0.5)
    assert torch.equal(split(traced, frozen=1, num_classes=2).prefix(*batch()), before)
    assert traced.module.code == code


def test_a_graph_tells_whether_it_has_dropout(traced: TracedBackbone) -> None:
    assert has_dropout(traced.module)
    count = len(boundaries(traced))
    assert not has_dropout(split(traced, frozen=count, num_classes=2).suffix)
