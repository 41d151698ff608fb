"""Graphs written as JSON and computed without torch.fx."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import fx, nn

from tests.trainable.small_text import small_text
from tests.trainable.text_families import FAMILIES, LENGTH, MORE_FAMILIES, text_case, texts
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.graphs.steps import StepsModule, to_steps
from trainable.errors import BackboneError

GOOD: dict[str, Any] = {
    "inputs": ["x"],
    "tensors": ["w"],
    "steps": [
        {"name": "a", "call": "aten.mul.Tensor", "args": [{"value": "x"}, {"tensor": "w"}]},
        {"name": "b", "call": "operator.add", "args": [{"value": "a"}, {"float": "inf"}]},
        {
            "name": "c",
            "call": "aten.to.dtype",
            "args": [{"value": "a"}, {"dtype": "float64"}],
        },
    ],
    "output": {"value": "c"},
}
for step in GOOD["steps"]:
    step["kwargs"] = {}


@pytest.fixture(scope="module")
def traced() -> TracedBackbone:
    return export(small_text(), size=24)


def written_and_read(module: fx.GraphModule) -> StepsModule:
    written = json.loads(json.dumps(to_steps(module), allow_nan=False))
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    return StepsModule(written, {name: tensors[name] for name in written["tensors"]}).eval()


def test_a_graph_that_is_written_and_read_computes_the_same_to_the_bit(
    traced: TracedBackbone,
) -> None:
    halves = split(traced, frozen=len(boundaries(traced)) // 2, num_classes=3)
    nn.init.normal_(halves.suffix.get_submodule(halves.head).weight)  # type: ignore[arg-type]
    suffix = halves.suffix.eval()
    prefix_again, suffix_again = map(written_and_read, (halves.prefix.module, suffix))
    for number, length in ((1, 24), (3, 7)):
        tokens = torch.randint(1, 20, (number, length))
        mask = torch.ones_like(tokens)
        mask[-1, length // 2 :] = 0
        with torch.no_grad():
            between = halves.prefix(tokens, mask)
            assert torch.equal(prefix_again(tokens, mask), between)
            assert torch.equal(suffix_again(between, mask), suffix(between, mask))


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_every_family_is_written_and_read(family: str) -> None:
    pytest.importorskip("transformers")
    traced = text_case(family).traced
    halves = split(traced, frozen=len(boundaries(traced)) // 2, num_classes=3)
    again = [written_and_read(part) for part in (halves.prefix.module, halves.suffix.eval())]
    tokens, mask = texts(2, LENGTH)
    with torch.no_grad():
        expected = halves.prefix(tokens, mask)
        assert torch.equal(again[0](tokens, mask), expected)
        assert torch.equal(again[1](expected, mask), halves.suffix(expected, mask))


def test_steps_keep_no_value_longer_than_it_is_needed() -> None:
    module = StepsModule(GOOD, {"w": torch.tensor(3.0)})
    assert module(torch.tensor([2.0])).tolist() == [6.0]
    assert module(torch.tensor([2.0])).dtype == torch.float64
    assert [step.dropped for step in module._steps] == [("x",), ("b",), ("a",)]


def test_layers_and_functions_that_are_no_operators_are_refused() -> None:
    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layer(x)
            return found

    class Called(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(x)

    with pytest.raises(BackboneError, match=r"node layer is a layer \(Conv1d\)"):
        to_steps(fx.symbolic_trace(Convolved()))
    with pytest.raises(BackboneError, match="a node calls <function relu"):
        to_steps(fx.symbolic_trace(Called()))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("aten.from_file.default", "a step calls 'aten.from_file.default'"),
        ("builtins.eval", "a step calls 'builtins.eval'"),
        ("operator.attrgetter", "a step calls 'operator.attrgetter'"),
        ("aten.mul", "a step calls 'aten.mul'"),
        ("aten.__class__.mro", "a step calls 'aten.__class__.mro'"),
        ("aten.nothing.default", "a step calls 'aten.nothing.default'"),
    ],
)
def test_no_step_calls_anything_but_operators(call: str, told: str) -> None:
    written = copy.deepcopy(GOOD)
    written["steps"][0]["call"] = call
    with pytest.raises(BackboneError, match=told):
        StepsModule(written, {"w": torch.ones(1)})


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 3},
        {"steps": [{"name": "a"}]},
        {"output": {"value": "a", "tensor": "b"}},
        {"output": {"dtype": "nn"}},
        {"output": {"code": "x"}},
        {"tensors": ["missing"]},
        {"inputs": None},
    ],
)
def test_what_is_no_graph_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BackboneError, match="damaged: no graph of a network"):
        StepsModule(GOOD | changed, {"w": torch.ones(1)})
