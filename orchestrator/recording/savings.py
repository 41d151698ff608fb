"""Frozen-prefix computation that trials shared through the feature cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from orchestrator.recording import user_attributes
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.text import percent


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Frozen-prefix computation of a whole sweep, pruned trials included.

    Attributes:
        asked_flops: FLOPs of all requested rows if each were computed from its image.
        computed_flops: FLOPs that were spent.
        hits: rows found in the feature cache.
        misses: rows computed.
        warnings: reasons why features were not stored.
    """

    asked_flops: float
    computed_flops: float
    hits: int
    misses: int
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for the user; empty if no frozen computation was requested."""
        if not self.asked_flops:
            return ""
        saved = 1 - self.computed_flops / self.asked_flops
        return (
            f"Frozen prefixes: {self.asked_flops / 1e9:,.0f} GFLOP asked for, "
            f"{self.computed_flops / 1e9:,.0f} computed, {percent(saved)} % saved"
        )


def measure_savings(studies: Iterable[optuna.Study]) -> Savings:
    """Return the requested and spent computation of all trials, finals and baselines."""
    runs = [run for study in studies for run in _runs(study)]
    warnings = dict.fromkeys(run["cache_warning"] for run in runs if run.get("cache_warning"))
    return Savings(
        asked_flops=sum(run.get("prefix_flops_asked", 0.0) for run in runs),
        computed_flops=sum(run.get("prefix_flops_computed", 0.0) for run in runs),
        hits=sum(run.get("cache_hits", 0) for run in runs),
        misses=sum(run.get("cache_misses", 0) for run in runs),
        warnings=tuple(warnings),
    )


def _runs(study: optuna.Study) -> list[Mapping[str, Any]]:
    trials = [
        trial.user_attrs.get(user_attributes.RUN) for trial in study.get_trials(deepcopy=False)
    ]
    others = [
        outcome.value.get(user_attributes.RUN)
        for outcome in user_attributes.outcomes(stored_attributes(study))
    ]
    return [run for run in [*trials, *others] if run is not None]
