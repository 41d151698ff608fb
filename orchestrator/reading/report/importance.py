"""How much of the variation in the objective each axis of the search explains, by label budget.

Optuna's functional ANOVA (Hutter, Hoos and Leyton-Brown 2014, ICML). Optuna's default, PED-ANOVA,
is quicker but looks at the best tenth of the trials alone: two or three of a small study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

FEWEST_TRIALS = 8
"""Complete trials below which nothing is said."""

_MOST_TRIALS = 150


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much one axis matters.

    Attributes:
        axis: its name.
        share: of the variance that all axes together explain, 0..1.
        num_trials: complete trials that it was computed from.
        conditional: whether it applies to some of the study's trials only; its share is then
            among those.
    """

    axis: str
    share: float
    num_trials: int
    conditional: bool


def importances(study: optuna.Study, *, seed: int = 0) -> list[Importance]:
    """The axes of one study, the most important first; none where too little is known.

    Axes that apply to all complete trials are weighed against each other. One that applies to some
    is weighed against those on the trials that have it. Of many trials 150 at equal distances are
    taken, which bounds the time.
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
    """The shares of some axes among all `axes` that these trials have."""
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
