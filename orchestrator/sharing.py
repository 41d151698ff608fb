"""Frozen computation that trials share: what a sweep keeps, and what that saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from orchestrator import record
from orchestrator.space import SearchSpace
from trainable.boundaries import Boundary
from trainable.errors import CacheError
from trainable.features import FeatureCache, cache_levels, open_cache
from trainable.images import LabelledImages


@dataclass(frozen=True, kw_only=True)
class KeptBoundaries:
    """Which of a backbone's boundaries are kept on this machine.

    Attributes:
        backbone: its name.
        image_size: side of its images, in pixels.
        num_boundaries: there are.
        kept: numbers of those kept, from 1.
        row_bytes: of one image's activations, for those kept.
    """

    backbone: str
    image_size: int
    num_boundaries: int
    kept: tuple[int, ...]
    row_bytes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Frozen computation over a whole sweep, its pruned trials included.

    Attributes:
        asked_flops: of all rows asked for, had each been computed from its image.
        computed_flops: that were spent.
        hits: rows found in the store.
        misses: rows computed.
        warnings: why features were not kept, if they were not.
    """

    asked_flops: float
    computed_flops: float
    hits: int
    misses: int
    warnings: tuple[str, ...]


def find_cache(space: SearchSpace, images: LabelledImages) -> tuple[FeatureCache | None, str]:
    """What keeps features on this machine, and why nothing does where it should."""
    try:
        return open_cache(space.cache, num_images=int(images.is_read().sum())), ""
    except CacheError as error:
        return None, str(error)


def kept_boundaries(
    cuts: Mapping[tuple[str, int], Sequence[Boundary]], cache: FeatureCache | None, *, views: int
) -> list[KeptBoundaries]:
    """What a sweep keeps of each backbone on this machine; others decide for themselves.

    Args:
        cuts: boundaries by backbone and image size.
        cache: None keeps nothing.
        views: of each image.
    """
    found = []
    for (backbone, size), places in cuts.items():
        levels = [] if cache is None else cache_levels(places, cache, views=views)
        kept = [(number, level) for number, level in enumerate(levels, start=1) if level.kept]
        found.append(
            KeptBoundaries(
                backbone=backbone,
                image_size=size,
                num_boundaries=len(places),
                kept=tuple(number for number, _ in kept),
                row_bytes=tuple(level.bytes for _, level in kept),
            )
        )
    return found


def measure_savings(studies: Iterable[optuna.Study]) -> Savings:
    """What all trials, finals and baselines of a sweep asked for, and what it took."""
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
    trials = [trial.user_attrs.get(record.RUN) for trial in study.get_trials(deepcopy=False)]
    others = [
        value.get(record.RUN)
        for key, value in study.user_attrs.items()
        if key.startswith((record.FINAL_PREFIX, record.BASELINE_PREFIX))
    ]
    return [run for run in [*trials, *others] if run is not None]
