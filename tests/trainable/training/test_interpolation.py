"""Interpolation between initial and trained weights, and the choice of the position."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainable.spec.metrics import Metric
from trainable.training.interpolation import WeightPath, best_share

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def predicted(right: int, margin: float) -> Tensor:
    """(N, 3) log-probabilities: the first `right` are right, and all have the same margin."""
    named = torch.where(torch.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 3)
    return functional.log_softmax(margin * functional.one_hot(named, 3).double(), dim=1)


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


@pytest.mark.parametrize("metric", Metric)
def test_equal_positions_give_the_one_nearest_to_the_start(metric: Metric) -> None:
    same = predicted(4, 2.0)
    assert best_share({1.0: same, 0.5: same, 0.25: same}, LABELS, metric) == 0.25


def test_overconfidence_counts_only_if_log_loss_is_the_objective() -> None:
    path = {0.0: predicted(3, 1.0), 1.0: predicted(4, 9.0)}
    assert best_share(path, LABELS, Metric.ACCURACY) == 1.0
    assert best_share(path, LABELS, Metric.BALANCED_ACCURACY) == 1.0
    assert best_share(path, LABELS, Metric.LOG_LOSS) == 0.0
