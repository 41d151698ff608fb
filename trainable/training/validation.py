"""Validation of learners on the examples that are held out of their training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import Outcomes, Scores, Task, joined
from trainable.training.head_learner import HeadLearners
from trainable.training.interpolation import SHARES
from trainable.training.learner import Examples
from trainable.training.suffix_learner import SuffixLearners

START = 0.0
"""Position of the initial weights; see `trainable.training.interpolation.SHARES`."""


@dataclass
class HeldOut:
    """The validation examples of all folds.

    Attributes:
        parts: each fold's validation examples, on the learners' device.
        task: the task of all examples.
        spec: the resolved recipe; `interpolation` and `objective` are used.
    """

    parts: Sequence[Examples]
    task: Task
    spec: TrialSpec
    _start: Outcomes | None = field(default=None, init=False)

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
        outcomes = {share: self._outcomes(learners, share) for share in shares}
        best = self.task.best_share(outcomes, self.spec.objective)
        return self.task.scores(outcomes[best]), best

    def _outcomes(self, learners: HeadLearners | SuffixLearners, share: float) -> Outcomes:
        """Outcomes of all folds; those of the initial weights are computed once."""
        if share == START and self._start is not None:
            return self._start
        found = joined(learners.outcomes(self.parts, share=share))
        if share == START:
            self._start = found
        return found
