"""Which configurations are refitted and may see the test set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.record import report_key
from trainable.spec import Metric


def rank_key(trial: FrozenTrial, metric: Metric) -> tuple[float, float, float, float, int]:
    """Sorts the best first: objective, then loss, then trained parameters, lr, and number.

    The leaderboard ranks its rows by the same rule.
    """
    report, facts = last_report(trial), trial.user_attrs["facts"]
    value = report["val_objective"]
    return (
        -value if metric.maximize else value,
        report["val_loss"],
        facts["trainable_params"],
        facts["spec"]["lr"],
        trial.number,
    )


def last_report(trial: FrozenTrial) -> dict[str, Any]:
    """The report that is the trial's score: its last one."""
    report: dict[str, Any] = trial.user_attrs[report_key(trial.last_step or 0)]
    return report


def choose_finalists(
    complete: Iterable[FrozenTrial], *, count: int, metric: Metric
) -> Sequence[FrozenTrial]:
    """The best configurations, as different as they can be: best first.

    The best of all is always one. The others are the best of each further backbone; where there
    are too few backbones, the best of each further depth of freezing; then whatever is next.

    Args:
        complete: trials of one study that ran to their end.
        count: how many are wanted; fewer come back where there are fewer distinct ones.
        metric: of the sweep.
    """
    ranked: list[FrozenTrial] = []
    seen: set[str] = set()
    for trial in sorted(complete, key=lambda trial: rank_key(trial, metric)):
        spec = repr(sorted(trial.user_attrs["facts"]["spec"].items(), key=lambda item: item[0]))
        if spec not in seen:
            seen.add(spec)
            ranked.append(trial)

    def backbone(trial: FrozenTrial) -> object:
        return trial.user_attrs["facts"]["spec"]["backbone"]

    def depth(trial: FrozenTrial) -> object:
        return (backbone(trial), trial.user_attrs["facts"]["frozen_boundaries"])

    chosen: list[FrozenTrial] = []
    for trait in (backbone, depth, lambda trial: trial.number):
        for trial in ranked:
            taken = {trait(other) for other in chosen}
            if len(chosen) < count and trait(trial) not in taken:
                chosen.append(trial)
    return sorted(chosen, key=ranked.index)
