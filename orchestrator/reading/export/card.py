"""Content of the model card of an exported network, and its warnings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.reading.export.choice import Choice
from orchestrator.text import percent, plural
from trainable.backbones import Weights
from trainable.export.trained_model import TrainedModel
from trainable.spec.trial_spec import LabelBudget


class Labels(StrEnum):
    """Which labels an exported network is trained on."""

    ALL = "all"
    BUDGET = "budget"
    EVERYTHING = "everything"


@dataclass(frozen=True, kw_only=True)
class Card:
    """Content of a model card.

    Attributes:
        manifest: manifest of the sweep.
        choice: the exported configuration.
        labels: which labels the network was trained on.
        repeat: number of the draw of labels.
        model: the trained network.
        class_counts: training examples of each class.
        weights: pretrained weights that the training began with.
    """

    manifest: Mapping[str, Any]
    choice: Choice
    labels: Labels
    repeat: int
    model: TrainedModel
    class_counts: Sequence[int]
    weights: Weights

    @property
    def measured(self) -> str:
        """Label budget at which the scores were measured, in words."""
        budget = LabelBudget.parse(json.loads(self.choice.trial["spec"])["label_budget"])
        if budget.per_class is not None and self.model.about.task == "segmentation":
            return plural(budget.per_class, f"labelled {self.noun}")
        if budget.per_class is not None:
            return f"{plural(budget.per_class, 'label')} per class"
        used = plural(self.choice.trial["labels_used"] or 0, "label")
        return f"all {used}" if budget.total is None else f"{used} in all"

    @property
    def noun(self) -> str:
        """What one example is called: `image`, or `text`."""
        return self.model.about.modality

    @property
    def is_trained(self) -> bool:
        """Whether anything of a training is in the weights, so that they are not the start."""
        return self.model.spec is not None and self.model.spec.interpolation != 0

    @property
    def passes(self) -> float | None:
        """Mean number of times that training draws each example; None if nothing is trained."""
        spec = self.model.spec
        if spec is None or not self.is_trained:
            return None
        return spec.steps * int(spec.batch_size) / len(self.model.indices)

    @property
    def collapse(self) -> str | None:
        """What was done where training collapsed, in words; None if it did not."""
        spec, factor = self.model.spec, self.model.lr_factor
        if spec is None or factor is None or factor == 1:
            return None
        lr = json.loads(self.choice.trial["spec"])["lr"]
        collapsed = f"its training collapsed at the learning rate of the trial, {lr:.4g}"
        if factor:
            return f"{collapsed}, and was repeated at {spec.lr:.4g}"
        return f"{collapsed}, and at lower ones, so that nothing of it is kept"

    @property
    def start(self) -> str:
        """What training started from, in words."""
        spec = self.model.spec
        zeros = spec is not None and spec.head_init == "zero"
        return "a head of zeros" if zeros else "a linear probe"

    def warnings(self) -> list[str]:
        """Return warnings about scores or training that users of the network need."""
        found = []
        num_labels = plural(len(self.model.indices), "label")
        if self.labels is not Labels.BUDGET and self.choice.trial["labels_used"] != len(
            self.model.indices
        ):
            found.append(
                f"it learnt from {num_labels}; the scores are of this configuration at "
                f"{self.measured}, and its own score was not measured"
            )
        if self.labels is Labels.EVERYTHING:
            found.append(
                f"it learnt from the test {self.noun}s, too, which can no longer measure it"
            )
        if self.collapse is not None:
            found.append(self.collapse)
        if self.passes is not None and self.passes < 1:
            found.append(
                f"its {self.model.spec.steps if self.model.spec else 0} updates draw about "
                f"{percent(1 - math.exp(-self.passes))} % of its {num_labels}; a sweep with a "
                "larger budget finds settings that use more of them"
            )
        return found
