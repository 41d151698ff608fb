"""Optuna's samplers and pruners as the search-space file names them, and asking by its axes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from orchestrator.space import Axis, Choice, Domain, Fixed, Range, SearchSpace, Value
from trainable.data.subsets import derive_seed


def make_sampler(space: SearchSpace, *, study: str, number: int) -> BaseSampler:
    """The sampler for one ask: made anew, so that an ask depends on told history alone.

    Args:
        space: names the sampler and holds the sweep's seed.
        study: the study asked.
        number: of the trial to be suggested.
    """
    return space.sampler.make(seed=derive_seed("ask", space.seed, study, number) % 2**32)


def make_pruner(space: SearchSpace, *, reports: int) -> BasePruner:
    """The pruner of a study whose trials give at most `reports` reports after the start.

    A trial with fewer reports than `reports` has made more than half of its steps where pruning
    begins.
    """
    return space.pruner.make(first=first_prunable_report(reports), reports=reports)


def first_prunable_report(reports: int) -> int:
    """The first of so many reports that does not come before half of the steps.

    Report i comes after i / `reports` of the steps, report 0 being the start. Optuna's pruners
    judge a report from `n_warmup_steps`, or a first rung of `min_resource`, on.
    """
    return (reports + 1) // 2


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
