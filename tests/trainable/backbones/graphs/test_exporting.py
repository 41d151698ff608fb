"""Text networks of many families, exported and cut, compute what the networks themselves do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainable.backbones.cutting.boundaries import boundaries, parameter_depths
from trainable.backbones.cutting.split import SplitBackbone, frozen_between, split
from trainable.backbones.graphs.dropout import has_dropout, set_dropout
from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import independent_copy, resized
from trainable.backbones.graphs.inputs import TokenInputs
from trainable.errors import BackboneError

pytest.importorskip("transformers")

from tests.trainable.text_families import (
    FAMILIES,
    LENGTH,
    MORE_FAMILIES,
    OWN_BACKWARD,
    REFUSED,
    WITHOUT_DROPOUT,
    TextCase,
    built,
    text_case,
    texts,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = ((1, LENGTH), (7, LENGTH), (7, 16), (3, 33), (2, 96))
"""Numbers and padded lengths of texts."""


@pytest.fixture(
    params=[*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_FAMILIES)]
)
def case(request: pytest.FixtureRequest) -> TextCase:
    """A small network of each family."""
    family: str = request.param
    return text_case(family)


def halves_of(case: TextCase, frozen: int) -> SplitBackbone:
    """The halves, the suffix in eval mode with the head of the whole."""
    halves = split(case.traced, frozen=frozen, num_classes=1)
    halves.suffix.set_submodule(halves.head, case.head)
    halves.suffix.eval()
    return halves


def test_the_two_halves_are_the_model_to_the_bit_at_every_boundary(case: TextCase) -> None:
    cuts = boundaries(case.traced)
    batches = [texts(*size) for size in SIZES if size[1] in case.traced.sizes]
    assert batches
    with torch.no_grad():
        expected = [case.head(case.model(*batch)) for batch in batches]
        for frozen in range(len(cuts) + 1):
            halves = halves_of(case, frozen)
            for (tokens, mask), logits in zip(batches, expected, strict=True):
                activations = halves.prefix(tokens, mask)
                if frozen and tokens.shape[1] == LENGTH:
                    assert activations.shape[1:] == cuts[frozen - 1].shape
                assert torch.equal(halves.suffix(activations, mask), logits), frozen
    assert not torch.equal(expected[1][0], expected[1][1])


def test_between_two_boundaries_lies_what_leads_from_one_to_the_other(case: TextCase) -> None:
    cuts = boundaries(case.traced)
    tokens, mask = texts(5, LENGTH)
    middle = cuts[len(cuts) // 2]
    first = frozen_between(case.traced, None, middle)(tokens, mask)
    second = frozen_between(case.traced, middle, cuts[-1])(first, mask)
    assert torch.equal(second, frozen_between(case.traced, None, cuts[-1])(tokens, mask))


def test_the_trained_part_gets_the_gradients_that_it_gets_in_the_model(case: TextCase) -> None:
    if case.family in OWN_BACKWARD:
        pytest.skip("its gradients are no derivatives of what it computes")
    tokens, mask = texts(5, LENGTH)
    model = copy.deepcopy(case.model).requires_grad_()
    case.head(model(tokens, mask)).square().sum().backward()
    expected = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    for frozen in range(len(boundaries(case.traced)) + 1):
        halves = halves_of(case, frozen)
        halves.suffix(halves.prefix(tokens, mask), mask).square().sum().backward()
        found = {
            name: parameter.grad
            for name, parameter in halves.suffix.named_parameters()
            if not name.startswith(f"{halves.head}.") and parameter.grad is not None
        }
        assert found.keys() <= expected.keys()
        for name in found.keys() - set(halves.on_both_sides):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_train_mode_is_that_of_the_model(case: TextCase) -> None:
    tokens, mask = texts(5, LENGTH)

    def run(module: nn.Module) -> Tensor:
        module.train()
        torch.manual_seed(1)
        with torch.no_grad():
            result: Tensor = module(tokens, mask)
        module.eval()
        return result

    found = run(case.traced.module)
    assert case.traced.without_dropout == (case.family in WITHOUT_DROPOUT)
    if case.traced.without_dropout:
        assert torch.equal(found, case.traced.module(tokens, mask))
    else:
        assert torch.equal(found, case.head(run(case.model)))


def test_without_dropout_train_mode_computes_what_eval_mode_does(case: TextCase) -> None:
    module = independent_copy(case.traced.module)
    assert has_dropout(module) or case.family not in FAMILIES
    set_dropout(module, 0.0)
    tokens, mask = texts(5, LENGTH)
    with torch.no_grad():
        torch.testing.assert_close(module.train()(tokens, mask), module.eval()(tokens, mask))


def test_every_parameter_of_every_suffix_has_a_depth(case: TextCase) -> None:
    depths = parameter_depths(case.traced)
    number = len(boundaries(case.traced))
    for frozen in range(number + 1):
        halves = split(case.traced, frozen=frozen, num_classes=3)
        own = {name for name, _ in halves.suffix.named_parameters()} - set(halves.on_both_sides)
        assert max(depths[name] for name in own) <= number - frozen


def test_facts_of_other_lengths_have_the_same_boundaries(case: TextCase) -> None:
    for length in (16, 96):
        if length in case.traced.sizes:
            other = resized(case.traced, length)
            assert other.module is case.traced.module
            assert other.inputs == TokenInputs(length)
            assert [cut.node for cut in boundaries(other)] == [
                cut.node for cut in boundaries(case.traced)
            ]


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_cannot_be_followed_is_refused_in_a_sentence(family: str) -> None:
    with pytest.raises(BackboneError, match=r"cannot be followed by torch\.export: ") as caught:
        export(built(family), size=LENGTH)
    assert "\n" not in str(caught.value)
