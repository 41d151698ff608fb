"""Optuna's samplers and pruners as the search-space file names them, and asking by its axes."""

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
"""Settled trials before TPE models them, where the file is silent (Optuna's default)."""


def make_sampler(space: SearchSpace, *, study: str, number: int) -> BaseSampler:
    """The sampler for one ask: made anew, so that an ask depends on told history alone.

    Args:
        space: names the sampler and holds the sweep's seed.
        study: the study asked.
        number: of the trial to be suggested.
    """
    seed = derive_seed("ask", space.seed, study, number) % 2**32
    if not isinstance(space.sampler, TpeSection):
        return RandomSampler(seed=seed)  # a grid's points are enqueued; nothing is left to sample
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed,
            n_startup_trials=space.sampler.n_startup_trials or TPE_STARTUP_TRIALS,
            multivariate=True,
            group=True,  # for conditional axes; a space without them is one group
            constant_liar=True,
        )


class _AfterTheStart(PercentilePruner):
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


def make_pruner(space: SearchSpace, *, reports: int) -> BasePruner:
    """The pruner of a study whose trials give at most `reports` reports after the start.

    Optuna's step is the number of the report. Where the file does not say when pruning may begin,
    it begins at half of the steps: early in training, near the peak learning rate, a good start
    looks best where it has moved least. A trial with fewer reports than `reports` has made more
    than half of its steps by then.
    """
    first = first_prunable_report(reports)
    match space.pruner:
        case MedianSection() as pruner:
            return _AfterTheStart(
                MEDIAN, pruner.n_startup_trials, _given(pruner.n_warmup_steps, first)
            )
        case PercentileSection() as pruner:
            return _AfterTheStart(
                pruner.percentile, pruner.n_startup_trials, _given(pruner.n_warmup_steps, first)
            )
        case HyperbandSection() as pruner:
            least = _given(pruner.min_resource, first)
            # With less than the first rung as the maximum, Optuna would have no bracket at all.
            return HyperbandPruner(least, max(least, reports), pruner.reduction_factor)
        case SuccessiveHalvingSection() as pruner:
            least = _given(pruner.min_resource, first)
            return SuccessiveHalvingPruner(least, pruner.reduction_factor)
        case _:
            return NopPruner()


def first_prunable_report(reports: int) -> int:
    """The first of so many reports that does not come before half of the steps.

    Report i comes after i / `reports` of the steps, report 0 being the start. Optuna's pruners
    judge a report from `n_warmup_steps`, or a first rung of `min_resource`, on.
    """
    return (reports + 1) // 2


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def suggest(space: SearchSpace, trial: optuna.Trial) -> dict[str, Any]:
    """Values of all axes that apply, each suggested in the order of the space.

    Axes with one value are no parameters of the study, but are in the result.
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
    """The study's parameter for an axis: its name, numbered where it has several domains.

    Optuna takes one domain for one parameter; cases with different choices need different ones.
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
    """The part of `params` that are parameters of the study, for `enqueue_trial`."""
    chosen: dict[str, Any] = {}
    for name, axis in space.axes.items():
        domain = axis.resolve(params)
        if domain is not None and not isinstance(domain, Fixed) and name in params:
            chosen[parameter_name(name, axis, domain)] = params[name]
    return chosen


def shuffled_grid(space: SearchSpace) -> list[dict[str, Value]]:
    """All points in a random order, so that the first few of them are spread over all axes."""
    points = list(space.grid())
    random.Random(derive_seed("grid", space.seed)).shuffle(points)  # noqa: S311
    return points
