"""The boundaries of every model on the shelf; no weights, no arithmetic."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict

import pytest
import torch

from tests.trainable.families import ACTIVATIONS_BEHIND_HEADS
from trainable.backbones import describe, names, task_of_name, trace_on_meta, untrained
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.errors import BackboneError

FEWEST = 5


CLASSIFIERS = [name for name in names() if task_of_name(name) == "classification"]


def smallest_of_families() -> set[str]:
    """The model with the fewest parameters of every family, a version of it being another one."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in CLASSIFIERS:
        found = re.match(r"[a-z]+(_v\d)?", name)
        assert found
        families[found[0]].append(name)
    return {
        min(family, key=lambda name: describe(name).num_params or 0) for family in families.values()
    }


SMALLEST = smallest_of_families()


@pytest.mark.parametrize(
    "name",
    [
        name if name in SMALLEST else pytest.param(name, marks=pytest.mark.shelf)
        for name in CLASSIFIERS
    ],
)
def test_every_backbone_of_the_shelf_has_boundaries_up_to_its_head(name: str) -> None:
    entry = describe(name)
    traced = trace_on_meta(name, size=entry.input_size)
    total = sum(parameter.numel() for parameter in traced.module.parameters())
    assert entry.num_params is not None
    assert total <= entry.num_params  # of inception_v3 with its auxiliary head, which is left out
    found = boundaries(traced)
    assert len(found) >= FEWEST
    nodes = list(traced.module.graph.nodes)
    order = [node.name for node in nodes]
    places = [order.index(boundary.node) for boundary in found]
    assert places == sorted(set(places))
    # From the last one nothing but the head costs anything or has parameters.
    assert places[-1] < order.index(traced.head.name)
    behind = nodes[places[-1] + 1 :]
    assert [node for node in behind if traced.facts[node].flops] == [traced.head]
    head = traced.module.get_submodule(str(traced.head.target))
    in_head = sum(parameter.numel() for parameter in head.parameters())
    assert found[-1].params == total - in_head
    for boundary in found:
        assert boundary.shape
        assert all(side > 0 for side in boundary.shape)
    for shallower, deeper in itertools.pairwise(found):
        assert 0 <= shallower.params <= deeper.params
        assert 0 <= shallower.flops <= deeper.flops
    assert found[-1].flops > 0
    # Behind it stands what the backbone has there, but for the activations of two.
    halves = split(traced, frozen=len(found), num_classes=3)
    activation = ACTIVATIONS_BEHIND_HEADS.get(name)
    assert halves.bare_logits is (activation is not None)
    stays = [str(n.target) for n in nodes[order.index(traced.head.name) :] if n.op != "output"]
    left = [
        str(n.target) for n in halves.suffix.graph.nodes if n.op not in ("placeholder", "output")
    ]
    assert left[left.index(halves.head) :] == [target for target in stays if target != activation]


@pytest.mark.parametrize("name", ["tiny_strokes", "resnet18", "vit_b_32", "regnet_y_400mf"])
def test_outline_is_that_of_the_weights_and_holds_none(name: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    model = trace_on_meta(name, size=64).module
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert not any(module.training for module in model.modules())
    real = untrained(name).traced(64).module.state_dict()
    assert not any(tensor.is_meta for tensor in real.values())
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in real.items()}


@pytest.mark.parametrize("name", ["timm:swinv2_tiny_window8_256", "timm:test_vit"])
def test_outlines_of_timm_need_no_weights_on_this_machine(name: str) -> None:
    traced = trace_on_meta(name, size=256 if "swin" in name else 160)
    assert all(tensor.is_meta for tensor in traced.module.state_dict().values())
    assert len(boundaries(traced)) > 8


def test_modules_built_later_have_weights_again() -> None:
    trace_on_meta("squeezenet1_1", size=64)
    with pytest.raises(BackboneError, match="100 x 100"):
        trace_on_meta("vit_b_32", size=100)
    assert not torch.nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize("name", ["resnt50", "resnet50@IMAGENET1K_V1", "resnet50@none"])
def test_outline_of_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match=f"got '{name}'; "):
        trace_on_meta(name, size=64)
