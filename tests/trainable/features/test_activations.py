"""Activations of several sizes are collated into batches that depend on their own rows alone."""

import math

import pytest
import torch

from trainable.features.activations import Activations

SHORT = torch.arange(1, 13).reshape(2, 3, 2).float()
LONG = torch.arange(101, 111).reshape(1, 5, 2).float()


def ragged() -> Activations:
    """Activations of a short, a long and a short example, each with a mask as side input."""
    return Activations(
        [
            (SHORT, torch.ones(2, 3, dtype=torch.int64)),
            (LONG, torch.ones(1, 5, dtype=torch.int64)),
        ],
        torch.tensor([0, 1, 0]),
        torch.tensor([0, 0, 1]),
        sizes=(3, 5),
    )


def test_a_batch_is_padded_to_its_own_longest_example() -> None:
    content, mask = ragged().inputs()
    assert content.shape == (3, 5, 2)
    assert torch.equal(content[1], LONG[0])
    assert torch.equal(content[2, :3], SHORT[1])
    assert not content[2, 3:].any()
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def test_a_batch_of_short_examples_is_not_padded() -> None:
    content, mask = ragged().at(torch.tensor([2, 0, 2])).inputs()
    assert torch.equal(content, SHORT[[1, 0, 1]])
    assert mask.shape == (3, 3)


@pytest.mark.parametrize("axis", [1, 2])
def test_every_dimension_that_differs_is_padded(axis: int) -> None:
    groups = [(torch.ones(1, 3, 3).narrow(axis, 0, length),) for length in (2, 3)]
    places = torch.tensor([0, 1]), torch.tensor([0, 0])
    (content,) = Activations(groups, *places).inputs()
    assert content.shape == (2, 3, 3)
    assert content[0].sum() == 6
    assert not content[0].select(axis - 1, 2).any()


def test_writing_to_a_batch_does_not_change_the_activations() -> None:
    one = Activations([(SHORT.clone(),)])
    one.inputs()[0].zero_()
    assert torch.equal(one.dense, SHORT)
    assert torch.equal(one.at(torch.tensor([1])).inputs()[0], SHORT[1:])


def test_examples_of_one_shape_are_dense_whatever_their_padded_size() -> None:
    groups = [(torch.tensor([[1.0], [3.0]]),), (torch.tensor([[2.0]]),)]
    whole = Activations(groups, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]))
    assert whole.dense.tolist() == [[1.0], [2.0], [3.0]]
    assert whole.at(torch.tensor([2, 1])).dense.tolist() == [[3.0], [2.0]]


def test_examples_of_one_size_are_found_in_their_order() -> None:
    assert [one.tolist() for one in ragged().by_size()] == [[0, 2], [1]]
    some = ragged().at(torch.tensor([1, 2, 0]))
    assert [one.tolist() for one in some.by_size()] == [[1, 2], [0]]
    assert [one.tolist() for one in some.at(torch.tensor([1])).by_size()] == [[0]]
    assert len(ragged().at(torch.tensor([1, 2]))) == 2


@pytest.mark.parametrize(
    ("pass_size", "parts"),
    [(3, [[0, 2], [1]]), (5, [[0, 2, 1]]), (math.inf, [[0, 1, 2]])],
    ids=["cheap passes", "dear passes", "one pass"],
)
def test_sizes_are_computed_apart_where_padding_costs_more_than_another_pass(
    pass_size: float, parts: list[list[int]]
) -> None:
    """Together three examples of size 5; apart two of size 3, one of size 5, and a pass more."""
    assert [one.tolist() for one in ragged().in_parts(pass_size=pass_size)] == parts


def test_no_other_parts_of_neighbouring_sizes_take_less_time() -> None:
    sizes, counts, pass_size = (2, 3, 7, 8, 30), (9, 1, 4, 2, 1), 10
    groups = [(torch.zeros(n, 1),) for n in counts]
    group_of = torch.repeat_interleave(torch.arange(5), torch.tensor(counts))
    row_of = torch.cat([torch.arange(n) for n in counts])
    whole = Activations(groups, group_of, row_of, sizes)

    def cost(parts: list[list[int]]) -> int:
        return sum(pass_size + sum(counts[k] for k in part) * sizes[part[-1]] for part in parts)

    def ways(of: list[int]) -> list[list[list[int]]]:
        if not of:
            return [[]]
        return [[of[:n], *rest] for n in range(1, len(of) + 1) for rest in ways(of[n:])]

    found = whole.in_parts(pass_size=pass_size)
    assert sorted(torch.cat(found).tolist()) == list(range(17))
    as_groups = [torch.unique(group_of[part]).tolist() for part in found]
    assert cost(as_groups) == min(cost(way) for way in ways(list(range(5))))
