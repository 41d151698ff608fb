"""Trials and baselines of segmentation, on images that a network learns in a few updates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders.checkpoints import Keeper
from tests.builders.masked_examples import masked_examples, with_scrambled_masks
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.split import split
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import Speeds
from trainable.features.store import FeatureStore
from trainable.spec.augmentation import Augmentation
from trainable.spec.metrics import METRICS, Metric
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.tasks import TestResult as Result
from trainable.tasks.segmentation.results import FOUND, GIVEN, TRUE
from trainable.tasks.segmentation.scores import MaskScores
from trainable.training.baselines import BaselineResult, run_baseline
from trainable.training.probe import ProbeMemo
from trainable.training.results import Report
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

HEADS_TAKE = 200
"""Channels of all maps that the heads take: three of the encoder, and the last of the decoder."""

BUDGET = LabelBudget(8)
FOLDS = Validation(2)
SIZE = 32

PROBES = ProbeMemo()
"""Of the images as they are: fits of probes take most of the time here."""


@pytest.fixture(scope="module")
def examples() -> LabelledExamples:
    return masked_examples()


@pytest.fixture(scope="module")
def strokes() -> Backbone:
    """The shipped backbone under a decoder."""
    return Backbone(load_weights("tiny_strokes", task="segmentation"))


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": 1e-2,
        "label_budget": BUDGET,
        "freeze_depth": 0.5,
        "validation": FOLDS,
        "objective": Metric.MIOU,
        "steps": 4,
        "reports": 2,
        "batch_size": 4,
        "interpolation": 1.0,
        "image_size": SIZE,
    }
    return TrialSpec(**{**settings, **changed})


def numbers(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """All numbers of the reports except times."""
    return [{k: v for k, v in asdict(report).items() if k != "elapsed_s"} for report in reports]


def baseline(
    examples: LabelledExamples,
    backbone: Backbone | None,
    method: str,
    *,
    probes: ProbeMemo = PROBES,
    cache: FeatureCache | None = None,
) -> BaselineResult:
    return run_baseline(
        examples,
        backbone=backbone,
        budget=BUDGET,
        validation=FOLDS,
        repeats=1,
        seed=0,
        method=method,
        size=None if backbone is None else SIZE,
        probes=probes,
        cache=cache,
    )


def same(one: Result, other: Result) -> bool:
    """Whether two results are equal to the bit."""
    return one.scores == other.scores and all(
        np.array_equal(array, other.arrays()[name]) for name, array in one.arrays().items()
    )


def cache_in(folder: Path) -> FeatureCache:
    return FeatureCache(
        store=FeatureStore(folder),
        mode=CacheMode.ALWAYS,
        speeds=Speeds(flops=1e9, values=1e30, read_bytes=1e12, write_bytes=1e12),
        num_images=100,
    )


# The start of trials, and baselines


def test_trials_of_every_depth_start_from_the_probe(
    examples: LabelledExamples, strokes: Backbone
) -> None:
    validation = baseline(examples, strokes, "probe").validation
    for depth, probes in ((1.0, PROBES), (0.5, ProbeMemo()), (0.0, PROBES)):
        trial = Trial(spec_of(freeze_depth=depth), examples, strokes, probes=probes)
        start = next(trial.reports())
        # Where two classes are as likely, float32 and float64 may name different ones.
        assert start.val_objective == pytest.approx(validation.objective(Metric.MIOU), rel=1e-3)
        assert start.val_loss == pytest.approx(validation.log_loss, rel=1e-5)


@pytest.mark.parametrize("metric", METRICS["segmentation"])
def test_the_objective_of_a_report_is_the_metric_of_the_spec(
    examples: LabelledExamples, strokes: Backbone, metric: Metric
) -> None:
    validation = baseline(examples, strokes, "probe").validation
    start = next(Trial(spec_of(objective=metric), examples, strokes, probes=PROBES).reports())
    assert start.val_objective == pytest.approx(validation.objective(metric), rel=1e-3)
    assert start.val_accuracy is start.val_balanced_accuracy is None


def test_the_probe_beats_pixels_and_pixels_beat_the_majority(
    examples: LabelledExamples, strokes: Backbone
) -> None:
    probe, pixels, majority = (
        baseline(examples, strokes if method == "probe" else None, method)
        for method in ("probe", "pixels", "majority")
    )
    for better, worse in ((probe, pixels), (pixels, majority)):
        for one, other in (
            (better.validation, worse.validation),
            (better.tests[0].scores, worse.tests[0].scores),
        ):
            assert one.objective(Metric.MIOU) > other.objective(Metric.MIOU) + 0.05
            assert one.objective(Metric.PIXEL_ACCURACY) > other.objective(Metric.PIXEL_ACCURACY)
            assert one.log_loss < other.log_loss
    assert [one.size for one in (probe, pixels, majority)] == [SIZE, SIZE, None]
    assert {one.validation.count for one in (probe, pixels, majority)} == {8}
    tested = majority.tests[0].arrays()["pixels"]
    assert not tested[:, 1:, GIVEN].any()  # it calls everything background
    sizes = [one.num_features for one in (probe, pixels, majority)]
    assert sizes == [HEADS_TAKE, 3 * 5 * 5, 1]


# Training


@pytest.mark.parametrize(("freeze_depth", "lr"), [(0.5, 1e-2), (0.0, 3e-3)])
def test_training_gains_on_the_probe(
    examples: LabelledExamples, strokes: Backbone, freeze_depth: float, lr: float
) -> None:
    spec = spec_of(freeze_depth=freeze_depth, lr=lr, steps=16, reports=1, batch_size=8)
    start, end = Trial(spec, examples, strokes, probes=PROBES).reports()
    assert end.val_objective > start.val_objective + 0.02
    assert end.val_loss < start.val_loss


def test_a_refit_gains_on_the_probe_of_the_whole_budget(
    examples: LabelledExamples, strokes: Backbone
) -> None:
    probe = baseline(examples, strokes, "probe").tests[0]
    result = Trial(spec_of(steps=16, batch_size=8), examples, strokes, probes=PROBES).refit()
    assert result.scores.objective(Metric.MIOU) > probe.scores.objective(Metric.MIOU) + 0.02
    still = Trial(spec_of(lr=1e-12), examples, strokes, probes=PROBES).refit()
    for metric in METRICS["segmentation"]:
        expected = probe.scores.objective(metric)
        assert still.scores.objective(metric) == pytest.approx(expected, rel=1e-3)


def test_facts_count_the_heads_of_a_trial_that_trains_them_alone(
    examples: LabelledExamples, strokes: Backbone
) -> None:
    facts = Trial(spec_of(freeze_depth=1.0), examples, strokes).facts()
    assert facts.frozen_boundaries == facts.num_boundaries
    assert (facts.labels_used, facts.num_classes, facts.num_val) == (8, 3, 8)
    heads = split(strokes.traced(SIZE), frozen=0, num_classes=3).heads
    assert facts.trainable_params == 3 * HEADS_TAKE + 3 * len(heads)


SETTINGS: dict[str, dict[str, Any]] = {
    "upper layers": {"interpolation": "auto"},
    "everything": {
        "freeze_depth": 0.0,
        "head_init": "zero",
        "optimizer": "sgd",
        "batchnorm": "train",
    },
    "heads alone": {"freeze_depth": 1.0, "head_init": "zero"},
    "views": {
        "augment": Augmentation.parse({"ops": ["rotation"], "views": 2}),
        "head_init": "zero",
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_reports_are_the_same_with_a_cache_and_after_any_update(
    examples: LabelledExamples, strokes: Backbone, tmp_path: Path, settings: dict[str, Any]
) -> None:
    spec = spec_of(steps=2, **settings)
    keeper = Keeper()
    undisturbed = numbers(
        Trial(spec, examples, strokes, probes=PROBES).reports(after_update=keeper)
    )
    probes = ProbeMemo()
    for _ in range(2):  # filling the cache, and reading it
        cached = Trial(spec, examples, strokes, cache=cache_in(tmp_path), probes=probes)
        assert numbers(cached.reports()) == undisturbed
    first, *_, last = keeper.checkpoints()
    for checkpoint, done in ((first, 1), (last, 2)):
        resumed = Trial(spec, examples, strokes, probes=PROBES).reports(start=checkpoint)
        assert numbers(resumed) == undisturbed[done:]


def test_refits_are_the_same_with_a_cache_and_after_any_update(
    examples: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    spec = spec_of(interpolation=0.5)
    keeper = Keeper()
    undisturbed = Trial(spec, examples, strokes, probes=PROBES).refit(after_update=keeper)
    for _ in range(2):
        cached = Trial(spec, examples, strokes, cache=cache_in(tmp_path), probes=PROBES)
        assert same(cached.refit(), undisturbed)
    for checkpoint in keeper.checkpoints()[1:3]:
        resumed = Trial(spec, examples, strokes, probes=PROBES).refit(start=checkpoint)
        assert same(resumed, undisturbed)


def test_baselines_are_the_same_with_a_cache(
    examples: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    plain = baseline(examples, strokes, "probe")
    probes = ProbeMemo()
    for _ in range(2):  # filling the cache, and reading it
        cached = baseline(examples, strokes, "probe", cache=cache_in(tmp_path), probes=probes)
        assert cached.validation == plain.validation
        assert same(cached.tests[0], plain.tests[0])


def test_order_of_the_images_changes_nothing(examples: LabelledExamples, strokes: Backbone) -> None:
    order = np.random.default_rng(0).permutation(len(examples))
    spec = spec_of(steps=2, head_init="zero")
    expected = numbers(Trial(spec, examples, strokes).reports())
    assert numbers(Trial(spec, examples.at(order), strokes).reports()) == expected


# Data that a trial may use


def test_masks_outside_the_budget_and_of_the_test_split_do_not_move_validation(
    examples: LabelledExamples, strokes: Backbone
) -> None:
    subset = draw_subset(examples, budget=BUDGET, repeat=0, seed=0)
    assert len(subset) == 8
    unused = np.setdiff1d(np.arange(len(examples)), subset)
    assert set(examples.indices(Split.TEST)) < set(unused)
    scrambled = with_scrambled_masks(examples, unused)
    memos = PROBES, ProbeMemo()
    trials = [
        Trial(spec_of(), images, strokes, probes=probes)
        for images, probes in zip((examples, scrambled), memos, strict=True)
    ]
    honest, other = (numbers(trial.reports()) for trial in trials)
    assert honest == other
    honest_test, other_test = (trial.refit().arrays() for trial in trials)
    given = honest_test["pixels"][:, :, GIVEN]
    assert np.array_equal(other_test["pixels"][:, :, GIVEN], given)
    assert not np.array_equal(honest_test["confusion"], other_test["confusion"])
    probes = [
        baseline(images, strokes, "probe", probes=memo).validation
        for images, memo in zip((examples, scrambled), memos, strict=True)
    ]
    assert probes[0] == probes[1]
    inside = with_scrambled_masks(examples, subset)
    zero = spec_of(head_init="zero")
    one, another = (
        numbers(Trial(zero, images, strokes).reports()) for images in (examples, inside)
    )
    assert one != another


# Results


def test_pixels_of_a_result_give_its_scores(examples: LabelledExamples, strokes: Backbone) -> None:
    result = Trial(spec_of(), examples, strokes, probes=PROBES).refit()
    scores = result.scores
    assert isinstance(scores, MaskScores)
    pixels = result.arrays()["pixels"]
    tested = examples.indices(Split.TEST)
    assert pixels.shape == (len(tested), 3, 3)
    found, true, given = (pixels[:, :, kind].sum(axis=0) for kind in (FOUND, TRUE, GIVEN))
    iou = found / (true + given - found)
    assert scores.iou == pytest.approx(iou.tolist())
    assert scores.miou == pytest.approx(iou.mean())
    assert scores.pixel_accuracy == pytest.approx(found.sum() / true.sum())
    assert scores.log_loss == pytest.approx(result.arrays()["losses"].mean())
    assert scores.count == len(tested)
