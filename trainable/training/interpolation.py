"""Weights between the start and the end of a training.

One training gives the whole path between the two, start included. On images that pretraining fits
well, the middle of the path is often better than its end, and where training gains nothing, the
start is best (Wortsman et al., Robust fine-tuning of zero-shot models, 2022, WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from trainable.spec.metrics import Metric
from trainable.training.scores import calibrated_log_loss, score

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Places on the path that are tried: 0 is the start, 1 the end."""


class WeightPath:
    """The path from tensors as they are now to what training makes of them.

    Args:
        tensors: by name, those that training changes; whole numbers among them are left alone.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._live = {name: one for name, one in tensors.items() if one.is_floating_point()}
        self._start = {name: one.detach().clone() for name, one in self._live.items()}

    @contextmanager
    def at(self, share: float) -> Iterator[None]:
        """Within the block the tensors are `share` of the way from the start to where they are."""
        if share == 1:
            yield
            return
        reached = {name: one.detach().clone() for name, one in self._live.items()}
        self.settle(share)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, one in self._live.items():
                    one.copy_(reached[name])

    def settle(self, share: float) -> None:
        """Leave the tensors `share` of the way from the start to where they are."""
        with torch.no_grad():
            for name, one in self._live.items():
                one.copy_(torch.lerp(self._start[name], one.detach(), share))


def best_share(predictions: Mapping[float, Tensor], labels: Tensor, metric: Metric) -> float:
    """The place on the path whose validation predictions are best; of equal ones the first.

    They are compared by log loss, which tells more of few images than a share of them does: as it
    is where it is the objective, else at the temperature that suits each place best, for training
    makes predictions surer whether or not it makes them better.

    Args:
        predictions: by place (N, C) log-probabilities, the pooled ones of all folds.
        labels: (N,) int64 class ids.
        metric: the objective.
    """

    def loss(share: float) -> float:
        if metric is Metric.LOG_LOSS:
            return score(predictions[share], labels).log_loss
        return calibrated_log_loss(predictions[share], labels)

    return min(sorted(predictions), key=loss)
