"""A pruner of percentiles for trials that all start alike."""

from __future__ import annotations

import copy

import optuna
from optuna.pruners import PercentilePruner
from optuna.trial import FrozenTrial

from orchestrator.planning.work import START


class AfterStart(PercentilePruner):
    """Optuna's, but that a trial is judged by its best report after the start.

    All trials of a backbone start alike, however much they lose of it: with the start among their
    reports, those that only lose would look as good as their start for ever.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to be stopped at its last report."""
        values = trial.intermediate_values
        if len(values) > 1 and START in values:
            trial = copy.copy(trial)
            trial.intermediate_values = {n: v for n, v in values.items() if n != START}
        return super().prune(study, trial)
