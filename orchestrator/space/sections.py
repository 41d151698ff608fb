"""The sections of a search-space file, apart from `search:`, `training:` and `dataset:`.

Each field carries its `Setting`: what it may be, and its line in docs/search-space.md. A section
with kinds (sampler, pruner) has one model a kind, found by the word that names the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from orchestrator.space.section import Section
from trainable.spec.settings import SEED, Setting
from trainable.spec.trial_spec import CacheMode, Metric


class ObjectiveSection(Section):
    """What trials are judged by."""

    metric: Annotated[
        Metric | None,
        Setting(
            help="what trials are judged by; left out: balanced_accuracy where the commonest class "
            "has more than 1.5 times its share under balance, of the test images or of those that "
            "validation draws on, else accuracy",
            words=tuple(Metric),
        ),
    ] = None


SMALLEST_SHARE = 1e-4
"""The least of a processor or a GPU that Ray counts."""

_SAMPLER_NAME = Setting(help="what proposes trials", words=("tpe", "random", "grid"))


class TpeSection(Section):
    """Tree-structured Parzen estimator: learns from the trials so far."""

    name: Annotated[Literal["tpe"], _SAMPLER_NAME] = "tpe"
    n_startup_trials: Annotated[
        int | None,
        Setting(help="random trials before it learns; left out: Optuna's own", low=1, integer=True),
    ] = None


class RandomSection(Section):
    """Independent draws."""

    name: Annotated[Literal["random"], _SAMPLER_NAME] = "random"


class GridSection(Section):
    """Every combination of discrete axes."""

    name: Annotated[Literal["grid"], _SAMPLER_NAME] = "grid"


SamplerSection = TpeSection | RandomSection | GridSection

SAMPLERS: Mapping[str, type[SamplerSection]] = {
    "tpe": TpeSection,
    "random": RandomSection,
    "grid": GridSection,
}

_PRUNER_NAME = Setting(
    help="what ends poor trials early",
    words=("median", "percentile", "hyperband", "successive_halving", "none"),
)
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


class MedianSection(Section):
    """Ends trials below the median of the earlier ones at the same report."""

    name: Annotated[Literal["median"], _PRUNER_NAME] = "median"
    n_startup_trials: Annotated[int, _STARTUP] = 5
    n_warmup_steps: Annotated[int | None, _WARMUP] = None


class PercentileSection(Section):
    """Ends trials outside the best percentage of the earlier ones at the same report."""

    name: Annotated[Literal["percentile"], _PRUNER_NAME] = "percentile"
    percentile: Annotated[
        float, Setting(help="percentage of trials that goes on", low=0, high=100)
    ] = 25.0
    n_startup_trials: Annotated[int, _STARTUP] = 5
    n_warmup_steps: Annotated[int | None, _WARMUP] = None


class HyperbandSection(Section):
    """Successive halving at several degrees of haste."""

    name: Annotated[Literal["hyperband"], _PRUNER_NAME] = "hyperband"
    reduction_factor: Annotated[int, _REDUCTION] = 3
    min_resource: Annotated[int | None, _RESOURCE] = None


class SuccessiveHalvingSection(Section):
    """Lets the best share of each rung go on."""

    name: Annotated[Literal["successive_halving"], _PRUNER_NAME] = "successive_halving"
    reduction_factor: Annotated[int, _REDUCTION] = 3
    min_resource: Annotated[int | None, _RESOURCE] = None


class NoPrunerSection(Section):
    """Lets every trial run to its end."""

    name: Annotated[Literal["none"], _PRUNER_NAME] = "none"


PrunerSection = (
    MedianSection
    | PercentileSection
    | HyperbandSection
    | SuccessiveHalvingSection
    | NoPrunerSection
)

PRUNERS: Mapping[str, type[PrunerSection]] = {
    "median": MedianSection,
    "percentile": PercentileSection,
    "hyperband": HyperbandSection,
    "successive_halving": SuccessiveHalvingSection,
    "none": NoPrunerSection,
}


class FinalistsSection(Section):
    """Which configurations are scored on the test set."""

    count: Annotated[
        int,
        Setting(help="top configurations per label budget that are refitted", low=1, integer=True),
    ] = 3
    repeats: Annotated[
        int, Setting(help="fresh draws of the labelled subset for each", low=2, integer=True)
    ] = 5


class LimitsSection(Section):
    """When a sweep, or a part of it, ends before it is through."""

    hours: Annotated[
        float | None,
        Setting(
            help="hours until a sweep ends; finalists are still scored", low=0, low_excluded=True
        ),
    ] = None
    trial_minutes: Annotated[
        float | None,
        Setting(
            help="minutes that a trial, final or baseline may take; then it has failed",
            low=0,
            low_excluded=True,
        ),
    ] = None
    silent_minutes: Annotated[
        float,
        Setting(
            help="minutes without a sign of life after which a process counts as hung; its work "
            "is tried again in another",
            low=0,
            low_excluded=True,
        ),
    ] = 30.0


class ResourcesSection(Section):
    """What a trial gets of the cluster."""

    cpus_per_trial: Annotated[
        float, Setting(help="CPU cores of each trial", low=SMALLEST_SHARE)
    ] = 1.0
    gpus_per_trial: Annotated[
        float | Literal["auto"],
        Setting(help="GPUs of each trial, shares included", low=0, words=("auto",)),
    ] = "auto"
    max_concurrent: Annotated[
        int | None,
        Setting(help="trials at the same time; left out: all that fit", low=1, integer=True),
    ] = None


class PlainSection(Section):
    """The plain values at the top level of the file."""

    trials: Annotated[int, Setting(help="trials per label budget", low=1, integer=True)] = 24
    checkpoint_s: Annotated[
        float,
        Setting(
            help="seconds between the checkpoints of a trial or final; shorter ones make none",
            low=0,
            low_excluded=True,
        ),
    ] = 60.0
    seed: Annotated[int, SEED] = 0
    cache: Annotated[
        CacheMode,
        Setting(
            help="which activations of frozen prefixes are kept on disk for other trials and later "
            "sweeps: those for which it pays, all that fit, or none",
            words=tuple(CacheMode),
        ),
    ] = CacheMode.AUTO
