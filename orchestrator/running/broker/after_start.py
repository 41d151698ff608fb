"""A percentile pruner for trials that all start from the same network."""

from __future__ import annotations

import copy

import optuna
from optuna.pruners import PercentilePruner
from optuna.trial import FrozenTrial

from orchestrator.planning.work import START


class AfterStart(PercentilePruner):
    """Optuna's percentile pruner, which here ignores the start when it takes a trial's best report.

    All trials of a backbone have the same scores at the start. If the start counted, trials that
    only get worse would forever be judged by that score.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop a trial at its last report."""
        values = trial.intermediate_values
        if len(values) > 1 and START in values:
            trial = copy.copy(trial)
            trial.intermediate_values = {n: v for n, v in values.items() if n != START}
        return super().prune(study, trial)
