"""Metrics of class probabilities against labels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainable.spec.metrics import Metric

ECE_BINS = 15

_LOG_TEMPERATURES = (-3.0, 3.0)
_TEMPERATURE_STEPS = 40
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class ClassScores:
    """Scores of predicted classes; see `Scores`.

    Attributes:
        accuracy: share of images whose most probable class is the label, 0..1.
        balanced_accuracy: mean over the classes present of the share found, 0..1.
        macro_f1: mean over the classes present of the F1 score, 0..1; see `macro_f1`.
        auroc: mean over the classes present of the area under the ROC curve, 0..1; see `auroc`.
        log_loss: mean negative log-probability of the label, in nats.
        ece: expected calibration error, 0..1 (Guo et al., On Calibration of Modern Neural Networks,
            2017, section 2), with `ECE_BINS` equal-width bins.
        count: number of images.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    auroc: float
    log_loss: float
    ece: float
    count: int

    def objective(self, metric: Metric) -> float:
        """See `Scores`."""
        return float(getattr(self, metric.value))

    def to_json(self) -> dict[str, Any]:
        """See `Scores`."""
        return asdict(self)


def score(log_probabilities: Tensor, labels: Tensor) -> ClassScores:
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
    return ClassScores(
        accuracy=float(correct.mean()),
        balanced_accuracy=float(recalls.mean()),
        macro_f1=macro_f1(predicted, labels),
        auroc=auroc(log_probabilities, labels),
        log_loss=log_loss(log_probabilities, labels),
        ece=float(gaps.abs().sum() / len(labels)),
        count=len(labels),
    )


def log_loss(log_probabilities: Tensor, labels: Tensor) -> float:
    """Mean negative log-probability of the label, in nats.

    Args:
        log_probabilities: (N, C) float natural logarithms; N >= 1.
        labels: (N,) int64 class ids.
    """
    return float(-log_probabilities.double().gather(1, labels[:, None]).mean())


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """Mean over the classes of `labels` of 2 TP / (2 TP + FP + FN), 0..1.

    A class that is only predicted counts by the false negatives of others, but has no term of its
    own: which classes are averaged is then a fact of the examples, not of the predictions.

    Args:
        predicted: (N,) int64 class ids; N >= 1.
        labels: (N,) int64 class ids.
    """
    num_classes = int(torch.maximum(predicted, labels).max()) + 1
    found = torch.bincount(labels[predicted == labels], minlength=num_classes).double()
    counted = torch.bincount(labels, minlength=num_classes)
    given = torch.bincount(predicted, minlength=num_classes)
    present = counted > 0
    return float((2 * found[present] / (counted + given)[present]).mean())


def auroc(log_probabilities: Tensor, labels: Tensor) -> float:
    """Mean over the classes of `labels` of the area under the ROC curve of one class against all.

    The area is the share of pairs of an example of the class and one of another class in which the
    first has the higher probability of the class; a tie counts half (Hanley and McNeil 1982,
    Radiology 143:29). Where all examples are of one class there are no pairs, and it is 0.5.

    Args:
        log_probabilities: (N, C) float natural logarithms; N >= 1.
        labels: (N,) int64 class ids.
    """
    classes, counts = torch.unique(labels, return_counts=True)
    if len(classes) == 1:
        return 0.5
    scores = log_probabilities[:, classes].T.contiguous()
    ordered = scores.sort(dim=1).values
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    ranks = (below + up_to + 1).double() / 2
    members = labels == classes[:, None]
    of_members = (ranks * members).sum(dim=1) - counts * (counts + 1) / 2
    return float((of_members / (counts * (len(labels) - counts))).mean())


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
