"""Results of a trial: reports, resolved settings and counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trainable.spec.trial_spec import TrialSpec


@dataclass(frozen=True, kw_only=True)
class Report:
    """One evaluation of a trial, over the pooled predictions of all validation parts.

    Attributes:
        report: number of the report; 0 is the start, before any update.
        step: updates made so far, of each fold.
        train_loss: mean over the updates since the last report and over folds, in nats; None of
            the start.
        val_loss: log loss, in nats.
        val_accuracy: 0..1; None where an example has no class of its own.
        val_balanced_accuracy: 0..1; None as well.
        val_objective: the score that the spec's objective names.
        elapsed_s: since the trial began.
        interpolation: share of the way from the start to the trained weights at which the
            predictions were made, 0..1.
    """

    report: int
    step: int
    train_loss: float | None
    val_loss: float
    val_accuracy: float | None
    val_balanced_accuracy: float | None
    val_objective: float
    elapsed_s: float
    interpolation: float


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """Settings and counts resolved when a trial is set up.

    Attributes:
        spec: the spec with every `auto` resolved.
        weights: which weights the backbone has.
        boundary: node after which the backbone is cut; None where nothing is frozen.
        frozen_boundaries: number of boundaries in the prefix.
        num_boundaries: of the backbone.
        prefix_params_fraction: share of all parameters that lie in the prefix, 0..1.
        prefix_flops_fraction: share of the forward pass before the head, 0..1.
        trainable_params: parameters that learn, those of the new head included.
        total_params: of prefix and suffix.
        labels_used: images drawn, for training and validation together.
        num_classes: classes of the task.
        folds: validation parts.
        num_val: images scored by each report.
        device: name of the device.
    """

    spec: TrialSpec
    weights: str
    boundary: str | None
    frozen_boundaries: int
    num_boundaries: int
    prefix_params_fraction: float
    prefix_flops_fraction: float
    trainable_params: int
    total_params: int
    labels_used: int
    num_classes: int
    folds: int
    num_val: int
    device: str

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {**asdict(self), "spec": self.spec.to_json()}
