"""The metrics that trials are ranked by."""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """A metric of class probabilities against labels; see `tasks.classification.scores`."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    MACRO_F1 = "macro_f1"
    AUROC = "auroc"
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
