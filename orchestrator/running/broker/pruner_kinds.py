"""The pruners that a search-space file can name; Optuna is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from orchestrator.space.pruners import PrunerName, PrunerSection
from trainable.spec.setting import Setting

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

MEDIAN = 50.0
"""Percentile of the median pruner."""

_STARTUP = Setting(
    help="trials of a study that are never pruned, the first ones", low=0, integer=True
)
_WARMUP = Setting(
    help="reports of each trial, its start included, before it can be pruned; left out: those "
    "before half of its steps",
    low=0,
    integer=True,
)
_REDUCTION = Setting(help="one in this many trials goes on to the next rung", low=2, integer=True)
_RESOURCE = Setting(
    help="reports, the start included, before the first rung; left out: those before half of the "
    "steps",
    low=1,
    integer=True,
)


class MedianSection(PrunerSection):
    """Ends trials below the median of the earlier ones at the same report."""

    name: Annotated[Literal["median"], PrunerName] = "median"
    n_startup_trials: Annotated[int, _STARTUP] = 5
    n_warmup_steps: Annotated[int | None, _WARMUP] = None

    def make(self, *, first: int, reports: int) -> BasePruner:
        """Optuna's, which judges a trial by its best report after the start."""
        from orchestrator.running.broker.after_start import AfterStart

        del reports
        return AfterStart(MEDIAN, self.n_startup_trials, _given(self.n_warmup_steps, first))


class PercentileSection(PrunerSection):
    """Ends trials outside the best percentage of the earlier ones at the same report."""

    name: Annotated[Literal["percentile"], PrunerName] = "percentile"
    percentile: Annotated[
        float, Setting(help="percentage of trials that goes on", low=0, high=100)
    ] = 25.0
    n_startup_trials: Annotated[int, _STARTUP] = 5
    n_warmup_steps: Annotated[int | None, _WARMUP] = None

    def make(self, *, first: int, reports: int) -> BasePruner:
        """Optuna's, which judges a trial by its best report after the start."""
        from orchestrator.running.broker.after_start import AfterStart

        del reports
        return AfterStart(
            self.percentile, self.n_startup_trials, _given(self.n_warmup_steps, first)
        )


class HyperbandSection(PrunerSection):
    """Successive halving in several brackets, which end trials earlier or later."""

    name: Annotated[Literal["hyperband"], PrunerName] = "hyperband"
    reduction_factor: Annotated[int, _REDUCTION] = 3
    min_resource: Annotated[int | None, _RESOURCE] = None

    def make(self, *, first: int, reports: int) -> BasePruner:
        """Optuna's Hyperband; a maximum below the first rung would leave it without brackets."""
        from optuna.pruners import HyperbandPruner

        least = _given(self.min_resource, first)
        return HyperbandPruner(least, max(least, reports), self.reduction_factor)


class SuccessiveHalvingSection(PrunerSection):
    """Ends all trials but the best share of each rung."""

    name: Annotated[Literal["successive_halving"], PrunerName] = "successive_halving"
    reduction_factor: Annotated[int, _REDUCTION] = 3
    min_resource: Annotated[int | None, _RESOURCE] = None

    def make(self, *, first: int, reports: int) -> BasePruner:
        """Optuna's successive halving."""
        from optuna.pruners import SuccessiveHalvingPruner

        del reports
        return SuccessiveHalvingPruner(_given(self.min_resource, first), self.reduction_factor)


class NoPrunerSection(PrunerSection):
    """Lets every trial run to its end."""

    name: Annotated[Literal["none"], PrunerName] = "none"

    def make(self, *, first: int, reports: int) -> BasePruner:
        """A pruner that never stops a trial."""
        from optuna.pruners import NopPruner

        del first, reports
        return NopPruner()


def _given(value: int | None, default: int) -> int:
    return default if value is None else value
