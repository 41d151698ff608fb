"""Metrics of class probabilities against labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainable.spec.trial_spec import Metric

ECE_BINS = 15

_LOG_TEMPERATURES = (-3.0, 3.0)
_TEMPERATURE_STEPS = 40
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Scores:
    """Scores of a set of predictions.

    Attributes:
        accuracy: share of images whose most probable class is the label, 0..1.
        balanced_accuracy: mean over the classes present of the share found, 0..1.
        log_loss: mean negative log-probability of the label, in nats.
        ece: expected calibration error, 0..1 (Guo et al., On Calibration of Modern Neural Networks,
            2017, section 2), with `ECE_BINS` equal-width bins.
        count: number of images.
    """

    accuracy: float
    balanced_accuracy: float
    log_loss: float
    ece: float
    count: int

    def objective(self, metric: Metric) -> float:
        """The score that `metric` names."""
        return float(getattr(self, metric.value))


def score(log_probabilities: Tensor, labels: Tensor) -> Scores:
    """Scores of predictions.

    Args:
        log_probabilities: (N, C) float natural logarithms, rows summing to 1 after exp; N >= 1.
        labels: (N,) int64 class ids.
    """
    log_probabilities = log_probabilities.double()
    predicted = log_probabilities.argmax(dim=1)
    correct = (predicted == labels).double()
    classes = torch.unique(labels)
    recalls = torch.stack([correct[labels == label].mean() for label in classes])
    confidence = log_probabilities.max(dim=1).values.exp()
    bins = (confidence * ECE_BINS).long().clamp(0, ECE_BINS - 1)
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins, correct - confidence)
    return Scores(
        accuracy=float(correct.mean()),
        balanced_accuracy=float(recalls.mean()),
        log_loss=float(-log_probabilities.gather(1, labels[:, None]).mean()),
        ece=float(gaps.abs().sum() / len(labels)),
        count=len(labels),
    )


def calibrated_log_loss(log_probabilities: Tensor, labels: Tensor) -> float:
    """Log loss in nats at the one temperature that makes it lowest, from 1/20 to 20.

    It divides the logits (Guo et al., 2017, section 4.2). The loss has one minimum in the inverse
    temperature, which golden-section search finds.

    Args:
        log_probabilities: (N, C) float natural logarithms; N >= 1.
        labels: (N,) int64 class ids.
    """
    logits = log_probabilities.double()

    def loss(log_temperature: float) -> float:
        scaled = logits * math.exp(-log_temperature)
        return float(functional.cross_entropy(scaled, labels))

    low, high = _LOG_TEMPERATURES
    for _ in range(_TEMPERATURE_STEPS):
        inner = _GOLDEN * (high - low)
        if loss(high - inner) <= loss(low + inner):
            high = low + inner
        else:
            low = high - inner
    return loss((low + high) / 2)
