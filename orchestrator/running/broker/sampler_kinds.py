"""The samplers that a search-space file can name; Optuna is imported when one is made."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Literal

from orchestrator.space.samplers import SamplerName, SamplerSection
from trainable.spec.setting import Setting

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

TPE_STARTUP_TRIALS = 10
"""Number of settled trials from which TPE models them, unless the file sets it; Optuna's
default."""


class TpeSection(SamplerSection):
    """Tree-structured Parzen estimator: learns from the trials so far."""

    learns = True

    name: Annotated[Literal["tpe"], SamplerName] = "tpe"
    n_startup_trials: Annotated[
        int | None,
        Setting(help="random trials before it learns; left out: Optuna's own", low=1, integer=True),
    ] = None

    def make(self, *, seed: int) -> BaseSampler:
        """Optuna's TPE, with a pessimistic assumption about the values of running trials."""
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed,
                n_startup_trials=self.n_startup_trials or TPE_STARTUP_TRIALS,
                multivariate=True,
                group=True,  # for conditional axes; a space without them is one group
                constant_liar=True,
            )


class RandomSection(SamplerSection):
    """Independent draws."""

    name: Annotated[Literal["random"], SamplerName] = "random"

    def make(self, *, seed: int) -> BaseSampler:
        """Optuna's random sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


class GridSection(SamplerSection):
    """Every combination of discrete axes."""

    every_combination = True

    name: Annotated[Literal["grid"], SamplerName] = "grid"

    def make(self, *, seed: int) -> BaseSampler:
        """A sampler that is never used, because all points of the grid are enqueued."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
