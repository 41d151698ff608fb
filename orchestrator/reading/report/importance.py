"""Share of the variance of the objective that each search axis explains, per label budget.

By Optuna's functional ANOVA (Hutter, Hoos and Leyton-Brown 2014, ICML). Optuna's default,
PED-ANOVA, is faster but uses only the best tenth of the trials: two or three in a small study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

FEWEST_TRIALS = 8
"""Smallest number of complete trials for which importances are computed."""

_MOST_TRIALS = 150


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The importance of one axis.

    Attributes:
        axis: its name.
        share: share of the variance that all axes explain together, 0..1.
        num_trials: number of complete trials that it was computed from.
        conditional: whether it applies only to some of the study's trials; its share is then
            computed on those.
    """

    axis: str
    share: float
    num_trials: int
    conditional: bool


def importances(study: optuna.Study, *, seed: int = 0) -> list[Importance]:
    """Return the axes of one study, most important first; empty with too few trials.

    Axes that apply to all complete trials are evaluated together. An axis that applies only to some
    trials is evaluated with those, on the trials that have it. At most 150 trials, evenly spaced,
    are used to bound the time.
    """
    trials = _sample(
        [
            trial
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.value is not None and np.isfinite(trial.value)
        ]
    )
    axes = dict.fromkeys(
        axis
        for trial in trials
        for axis, distribution in trial.distributions.items()
        if not distribution.single()
    )
    common = [axis for axis in axes if all(axis in trial.params for trial in trials)]
    found = _weigh(trials, common, of=common, seed=seed, conditional=False)
    for axis in axes:
        if axis not in common:
            having = [trial for trial in trials if axis in trial.params]
            found += _weigh(having, [*common, axis], of=[axis], seed=seed, conditional=True)
    return sorted(found, key=lambda one: -one.share)


def _weigh(
    trials: list[FrozenTrial], axes: list[str], *, of: list[str], seed: int, conditional: bool
) -> list[Importance]:
    """Return the shares of the axes `of` among all `axes`, on these trials."""
    if len(trials) < FEWEST_TRIALS or not axes:
        return []
    if len({trial.value for trial in trials}) == 1:
        return []
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={axis: trial.params[axis] for axis in axes},
                distributions={axis: trial.distributions[axis] for axis in axes},
                value=trial.value,
            )
            for trial in trials
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=axes)
    return [
        Importance(
            axis=axis,
            share=float(shares[axis]),
            num_trials=len(trials),
            conditional=conditional,
        )
        for axis in of
        if np.isfinite(shares[axis])
    ]


def _sample(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    if len(trials) <= _MOST_TRIALS:
        return trials
    return [trials[i] for i in np.linspace(0, len(trials) - 1, _MOST_TRIALS).round().astype(int)]
