"""Predictions of learners for the examples held out of their training."""

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


@dataclass
class HeldOut:
    """The validation examples of all folds.

    Attributes:
        activations: one part a fold, on the device of the learners.
        labels: (N,) int64 of all parts, one after the other, on the CPU.
        spec: `interpolation` and `objective` are read.
    """

    activations: Sequence[Activations]
    labels: Tensor
    spec: TrialSpec
    _start: Tensor | None = field(default=None, init=False)

    def scores(self, learners: HeadLearners | SuffixLearners) -> tuple[Scores, float]:
        """Scores of the pooled predictions, and the share of the path at which they are made.

        Raises:
            DivergedError: a prediction is not finite.
        """
        shares: tuple[float, ...] = (START,)  # all places are one before the first update
        if learners.step:
            given = self.spec.interpolation
            shares = SHARES if isinstance(given, str) else (given,)
        predictions = {share: self._predicted(learners, share) for share in shares}
        best = best_share(predictions, self.labels, self.spec.objective)
        return score(predictions[best], self.labels), best

    def _predicted(self, learners: HeadLearners | SuffixLearners, share: float) -> Tensor:
        """(N, C) log-probabilities; those of the start, which stays, are made once."""
        if share == START and self._start is not None:
            return self._start
        found = torch.cat(learners.log_probabilities(self.activations, share=share))
        if share == START:
            self._start = found
        return found
