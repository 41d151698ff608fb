"""The metrics that trials are ranked by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Metric(StrEnum):
    """A metric of predictions; see the module `scores` of each of `trainable.tasks`."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    MACRO_F1 = "macro_f1"
    AUROC = "auroc"
    MIOU = "miou"
    PIXEL_ACCURACY = "pixel_accuracy"
    LOG_LOSS = "log_loss"

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        return self is not Metric.LOG_LOSS

    @property
    def is_share(self) -> bool:
        """Whether it lies in 0..1; otherwise it is a loss in nats, 0 or more."""
        return self is not Metric.LOG_LOSS

    @property
    def needs_all_probabilities(self) -> bool:
        """Whether it depends on the probabilities of all classes, and not of two alone."""
        return self is Metric.AUROC


METRICS: Mapping[str, tuple[Metric, ...]] = {
    "classification": (
        Metric.ACCURACY,
        Metric.BALANCED_ACCURACY,
        Metric.MACRO_F1,
        Metric.AUROC,
        Metric.LOG_LOSS,
    ),
    "segmentation": (Metric.MIOU, Metric.PIXEL_ACCURACY, Metric.LOG_LOSS),
}
"""The metrics of each task; the first is that of a file that names none."""
