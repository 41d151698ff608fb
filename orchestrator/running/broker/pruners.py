"""The pruner of a study, and the first report at which it may prune."""

from __future__ import annotations

from optuna.pruners import BasePruner

from orchestrator.space import SearchSpace


def make_pruner(space: SearchSpace, *, reports: int) -> BasePruner:
    """The pruner of a study whose trials make at most `reports` reports after the start.

    A trial with fewer reports than `reports` has made more than half of its steps where pruning
    begins.
    """
    return space.pruner.make(first=first_prunable_report(reports), reports=reports)


def first_prunable_report(reports: int) -> int:
    """Number of the first report at or after half of the training steps.

    Report i comes after the fraction i / `reports` of the steps; report 0 precedes training.
    Optuna's pruners judge reports from number `n_warmup_steps`, or `min_resource`, on.

    Args:
        reports: number of reports after the start.
    """
    return (reports + 1) // 2
