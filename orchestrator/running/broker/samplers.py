"""Optuna samplers and pruners for a search space, and suggestion of its axes' values."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from orchestrator.planning.work import START
from orchestrator.space import Axis, Choice, Domain, Fixed, Range, SearchSpace, Value
from orchestrator.space.sections import (
    HyperbandSection,
    MedianSection,
    PercentileSection,
    SuccessiveHalvingSection,
    TpeSection,
)
from trainable.data.subsets import derive_seed

MEDIAN = 50.0
"""Percentile of the median pruner."""
TPE_STARTUP_TRIALS = 10
"""Trials before TPE starts to model, if the file does not set it (Optuna's default)."""


def make_sampler(space: SearchSpace, *, study: str, number: int) -> BaseSampler:
    """A new sampler for one ask, so that the ask depends on its seed and the told trials alone.

    Args:
        space: the search space, with the sampler's settings and the seed of the sweep.
        study: name of the study.
        number: number of the trial; with the study and the seed it seeds the sampler.
    """
    seed = derive_seed("ask", space.seed, study, number) % 2**32
    if not isinstance(space.sampler, TpeSection):
        return RandomSampler(seed=seed)  # the points of a grid are enqueued and never sampled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed,
            n_startup_trials=space.sampler.n_startup_trials or TPE_STARTUP_TRIALS,
            multivariate=True,
            group=True,  # models conditional axes; without any there is one group
            constant_liar=True,
        )


class _PrunerAfterStart(PercentilePruner):
    """Optuna's percentile pruner without the report before training.

    The pruner compares best reports. All trials of a backbone start from the same score, so with
    that report included, a trial that only gets worse would keep its starting score as its best.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial at its last report."""
        values = trial.intermediate_values
        if len(values) > 1 and START in values:
            trial = copy.copy(trial)
            trial.intermediate_values = {n: v for n, v in values.items() if n != START}
        return super().prune(study, trial)


def make_pruner(space: SearchSpace, *, reports: int) -> BasePruner:
    """The pruner of a study whose trials make at most `reports` reports after the start.

    Optuna's step is the number of the report. Unless the file sets it, pruning begins at half of
    the training steps: earlier, near the peak learning rate, the trials that moved least from a
    good starting point score best. A trial with fewer reports than `reports` has done more than
    half of its steps by then.

    Args:
        space: the search space, with the pruner's settings.
        reports: largest number of reports of a trial.
    """
    first = first_prunable_report(reports)
    match space.pruner:
        case MedianSection() as pruner:
            return _PrunerAfterStart(
                MEDIAN, pruner.n_startup_trials, _given(pruner.n_warmup_steps, first)
            )
        case PercentileSection() as pruner:
            return _PrunerAfterStart(
                pruner.percentile, pruner.n_startup_trials, _given(pruner.n_warmup_steps, first)
            )
        case HyperbandSection() as pruner:
            least = _given(pruner.min_resource, first)
            # If the maximum is below the first rung, Optuna makes no bracket.
            return HyperbandPruner(least, max(least, reports), pruner.reduction_factor)
        case SuccessiveHalvingSection() as pruner:
            least = _given(pruner.min_resource, first)
            return SuccessiveHalvingPruner(least, pruner.reduction_factor)
        case _:
            return NopPruner()


def first_prunable_report(reports: int) -> int:
    """Number of the first report at or after half of the training steps.

    Report i comes after the fraction i / `reports` of the steps; report 0 precedes training.
    Optuna's pruners judge reports from number `n_warmup_steps`, or `min_resource`, on.

    Args:
        reports: number of reports after the start.
    """
    return (reports + 1) // 2


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def suggest(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Suggest a value for every axis that applies, in the order of the space.

    Axes with a single value are in the result but are no parameters of the study.

    Args:
        space: the search space.
        trial: the trial to suggest for.

    Returns:
        Values by name of axis.
    """
    params: dict[str, Any] = {}
    for name, axis in space.axes.items():
        domain = axis.resolve(params)
        if isinstance(domain, Fixed):
            params[name] = domain.value
        elif domain is not None:
            parameter = parameter_name(name, axis, domain)
            params[name] = _suggest_one(trial, parameter, domain)
    return params


def parameter_name(name: str, axis: Axis, domain: Domain) -> str:
    """Name of the study's parameter for an axis; numbered if the axis has several domains.

    Optuna allows one domain per parameter, so cases with different domains need different names.

    Args:
        name: name of the axis.
        axis: the axis.
        domain: the domain that applies; one of the axis.
    """
    domains: list[Domain] = [other for other in axis.domains if not isinstance(other, Fixed)]
    return name if len(domains) == 1 else f"{name}[{domains.index(domain)}]"


def _suggest_one(trial: optuna.Trial, name: str, domain: Choice | Range) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, list(domain.values))
    if domain.integer:
        step = int(domain.step or 1)
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)


def optuna_params(params: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """The study's parameters for given values of axes, for `enqueue_trial`.

    Args:
        params: values by name of axis; axes without a value are left out.
        space: the search space.
    """
    chosen: dict[str, Any] = {}
    for name, axis in space.axes.items():
        domain = axis.resolve(params)
        if domain is not None and not isinstance(domain, Fixed) and name in params:
            chosen[parameter_name(name, axis, domain)] = params[name]
    return chosen


def shuffled_grid(space: SearchSpace) -> list[dict[str, Value]]:
    """All points of the grid in a seeded random order, so that the first ones vary in all axes."""
    points = list(space.grid())
    random.Random(derive_seed("grid", space.seed)).shuffle(points)  # noqa: S311
    return points
