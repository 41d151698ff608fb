"""Validation of learners on the examples that are held out of their training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainable.features.activations import Activations
from trainable.spec.trial_spec import TrialSpec
from trainable.training.head_learner import HeadLearners
from trainable.training.interpolation import SHARES, best_share
from trainable.training.scores import Scores, score
from trainable.training.suffix_learner import SuffixLearners

START = 0.0
"""Position of the initial weights; see `trainable.training.interpolation.SHARES`."""


@dataclass
class HeldOut:
    """The validation examples of all folds.

    Attributes:
        activations: activations of each fold's validation examples, on the learners' device.
        labels: (N,) int64 class ids of all folds, one fold after another, on the CPU.
        spec: the resolved recipe; `interpolation` and `objective` are used.
    """

    activations: Sequence[Activations]
    labels: Tensor
    spec: TrialSpec
    _start: Tensor | None = field(default=None, init=False)

    def scores(self, learners: HeadLearners | SuffixLearners) -> tuple[Scores, float]:
        """Score the current weights, or the best interpolation between initial and current ones.

        Returns:
            Scores of the predictions, pooled over all folds; and the position between initial (0)
            and current weights (1) that they were made at.

        Raises:
            DivergedError: a prediction is not finite.
        """
        shares: tuple[float, ...] = (START,)  # all positions are the same before the first update
        if learners.step:
            given = self.spec.interpolation
            shares = SHARES if isinstance(given, str) else (given,)
        predictions = {share: self._predicted(learners, share) for share in shares}
        best = best_share(predictions, self.labels, self.spec.objective)
        return score(predictions[best], self.labels), best

    def _predicted(self, learners: HeadLearners | SuffixLearners, share: float) -> Tensor:
        """(N, C) log-probabilities of all folds; those of the initial weights are computed once."""
        if share == START and self._start is not None:
            return self._start
        found = torch.cat(learners.log_probabilities(self.activations, share=share))
        if share == START:
            self._start = found
        return found
