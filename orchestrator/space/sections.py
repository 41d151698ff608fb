"""Sections of a search-space file that have no module of their own.

Each field carries its `Setting`: its allowed values, and its line in docs/search-space.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from orchestrator.space.section import Section
from trainable.spec.metrics import Metric
from trainable.spec.setting import Setting
from trainable.spec.settings import SEED
from trainable.spec.trial_spec import CacheMode


class ObjectiveSection(Section):
    """The metric that trials are ranked by."""

    metric: Annotated[
        Metric | None,
        Setting(
            help="what trials are judged by; left out: balanced_accuracy where the commonest class "
            "has more than 1.5 times its share under balance, of the test images or of those that "
            "validation draws on, else accuracy; miou for masks",
            words=tuple(Metric),
        ),
    ] = None


SMALLEST_SHARE = 1e-4
"""Smallest share of a CPU or a GPU that Ray counts."""


class FinalistsSection(Section):
    """Number of configurations scored on the test set, and of their repeats."""

    count: Annotated[
        int,
        Setting(help="top configurations per label budget that are refitted", low=1, integer=True),
    ] = 3
    repeats: Annotated[
        int, Setting(help="fresh draws of the labelled subset for each", low=2, integer=True)
    ] = 5


class LimitsSection(Section):
    """Time limits of a sweep and its parts."""

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
    """Resources of each trial."""

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
    """Plain values at the top level of the file."""

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
