"""Optuna samplers for a search space, and suggestion of its axes' values."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from orchestrator.space import Axis, Choice, Domain, Fixed, Range, SearchSpace, Value
from trainable.data.subsets import derive_seed


def make_sampler(space: SearchSpace, *, study: str, number: int) -> BaseSampler:
    """A new sampler for one ask, so that the ask depends on its seed and the told trials alone.

    Args:
        space: the search space, with the sampler's settings and the seed of the sweep.
        study: name of the study.
        number: number of the trial; with the study and the seed it seeds the sampler.
    """
    return space.sampler.make(seed=derive_seed("ask", space.seed, study, number) % 2**32)


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
