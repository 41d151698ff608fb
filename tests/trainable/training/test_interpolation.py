"""Interpolation between initial and trained weights."""

from __future__ import annotations

import pytest
import torch

from trainable.training.interpolation import WeightPath


def test_tensors_lie_on_the_line_within_the_block_and_where_they_were_after_it() -> None:
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    count = torch.tensor(3)
    path = WeightPath({"weight": weight, "count": count})
    with torch.no_grad():
        weight.copy_(torch.tensor([3.0, 2.0]))
    count += 4
    with path.at(0.25):
        assert weight.tolist() == [1.5, -1.0]
        assert count == 7  # integers, such as a number of batches, are not interpolated
    with path.at(0.0):
        assert weight.tolist() == [1.0, -2.0]
    with path.at(1.0):
        assert weight.tolist() == [3.0, 2.0]
    assert weight.tolist() == [3.0, 2.0]
    assert weight.requires_grad
    path.settle(0.5)
    assert weight.tolist() == [2.0, 0.0]


def test_an_error_within_the_block_leaves_the_tensors_where_they_were() -> None:
    weight = torch.tensor([1.0])
    path = WeightPath({"weight": weight})
    weight.fill_(9.0)
    with pytest.raises(RuntimeError, match="stop"), path.at(0.5):
        raise RuntimeError("stop")
    assert weight.tolist() == [9.0]
