"""The linear probe of a draw, and trials whose heads start from it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import Speeds
from trainable.features.reader import FeatureReader
from trainable.features.store import FeatureStore
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.tasks.classification.scores import score
from trainable.training import probe as probing
from trainable.training.baselines import run_baseline
from trainable.training.logistic import LinearClassifier, fit_path
from trainable.training.probe import (
    INVERSE_PENALTIES,
    UNVALIDATED_PENALTY,
    Probe,
    ProbeMemo,
    fit_probe,
    fixed,
    parts_of_draw,
    probe_of_draw,
)
from trainable.training.setup import TrialSetup
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

DEPTHS = (0.5, 0.75, 1.0)
OUTSIDE = Validation(folds=None, outside=True)
VANISHING = 1e-12

NETWORKS: dict[str, dict[str, Any]] = {
    "shipped": {"backbone": "tiny_strokes"},
    "residual": {"backbone": "resnet18@none", "image_size": 32, "label_budget": LabelBudget(2)},
    "convolutional head": {
        "backbone": "squeezenet1_1@none",
        "image_size": 32,
        "label_budget": LabelBudget(2),
    },
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[Backbone, dict[str, Any]]:
    settings = NETWORKS[request.param]
    torch.manual_seed(3)
    return Backbone(load_weights(settings["backbone"])), settings


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """A cache of all rows, so that the tests of this file compute them once per network."""
    return FeatureCache(
        store=FeatureStore(tmp_path_factory.mktemp("features")),
        mode=CacheMode.ALWAYS,
        speeds=Speeds(flops=1e9, values=1e30, read_bytes=1e9, write_bytes=1e9),
        num_images=2000,
    )


@pytest.fixture(scope="module")
def few_images(digit_images: LabelledExamples) -> LabelledExamples:
    """The digits, with few test images."""
    tested = digit_images.indices(Split.TEST)[:60]
    return digit_images.at(np.concatenate([digit_images.indices(Split.POOL), tested]))


@pytest.fixture
def with_val_split(few_images: LabelledExamples) -> LabelledExamples:
    split = few_images.split.copy()
    split[few_images.indices(Split.POOL)[::10]] = Split.VAL
    return replace(few_images, split=split)


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": VANISHING,
        "label_budget": LabelBudget(4),
        "freeze_depth": 0.75,
        "validation": Validation(2),
        "steps": 2,
        "reports": 1,
        "batch_size": 16,
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def drawn(images: LabelledExamples, spec: TrialSpec) -> npt.NDArray[np.int64]:
    return draw_subset(images, budget=spec.label_budget, repeat=spec.repeat, seed=spec.seed)


def features_of(
    images: LabelledExamples,
    backbone: Backbone,
    spec: TrialSpec,
    cache: FeatureCache | None = None,
) -> FeatureReader:
    size = backbone.weights.preprocessing.size
    return FeatureReader(
        images,
        backbone,
        size=size if spec.image_size == "auto" else int(spec.image_size),
        device=torch.device("cpu"),
        precision="fp32",
        cache=cache,
    )


def probe_for(
    images: LabelledExamples,
    backbone: Backbone,
    spec: TrialSpec,
    memo: ProbeMemo | None = None,
    cache: FeatureCache | None = None,
) -> Probe:
    reader = features_of(images, backbone, spec, cache)
    return probe_of_draw(
        images,
        drawn(images, spec),
        validation=spec.validation,
        features=lambda rows, _: fixed(reader.head_inputs(rows)),
        seed=0,
        device=torch.device("cpu"),
        features_key=reader.head_inputs_key,
        memo=memo,
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[LinearClassifier]]:
    """The initial heads of each training."""
    seen: list[list[LinearClassifier]] = []
    learners: Callable[..., Any] = TrialSetup.learners

    def watched(self: TrialSetup, *args: Any, initial_heads: Any, **given: Any) -> Any:
        seen.append(initial_heads and list(initial_heads))
        return learners(self, *args, initial_heads=initial_heads, **given)

    monkeypatch.setattr(TrialSetup, "learners", watched)
    return seen


def same(some: list[LinearClassifier], others: list[LinearClassifier]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
        for one, other in zip(some, others, strict=True)
    )


# The probe


def random_rows(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(9)
    labels = torch.arange(count) % 3
    features = torch.randn(count, 6, generator=random)
    return features + torch.nn.functional.one_hot(labels, 6), labels


def test_the_penalty_has_the_lowest_log_loss_of_pooled_predictions_outside_the_folds() -> None:
    features, labels = random_rows(60)
    _, folds = validation_parts(
        LabelledExamples.from_bytes(
            (bytes([i]) for i in range(60)),
            labels=labels.numpy(),
            split=np.zeros(60, np.int64),
            class_names=["a", "b", "c"],
            paths=[str(i) for i in range(60)],
        ),
        np.arange(60),
        validation=Validation(3),
    )
    found = fit_probe(fixed(features), labels, folds=folds, num_drawn=60, num_classes=3)
    truth = torch.cat([labels[fold.val] for fold in folds])
    losses, accuracies = {}, {}
    for penalty in INVERSE_PENALTIES:
        predictions = []
        for fold in folds:
            (fitted,) = fit_path(
                features[fold.train],
                labels[fold.train],
                num_classes=3,
                inverse_penalties=[penalty],
            )
            predictions.append(fitted.log_probabilities(features[fold.val]))
        scores = score(torch.cat(predictions), truth)
        losses[penalty], accuracies[penalty] = scores.log_loss, scores.accuracy
    assert found.inverse_penalty == min(losses, key=losses.__getitem__)
    assert found.validation is not None
    assert found.validation.log_loss == pytest.approx(min(losses.values()), abs=1e-4)
    # Accuracy, or no choice at all, would give another penalty in this case.
    assert accuracies[found.inverse_penalty] < max(accuracies.values())
    assert found.inverse_penalty != UNVALIDATED_PENALTY
    (whole,) = fit_path(features, labels, num_classes=3, inverse_penalties=[found.inverse_penalty])
    assert same([found.whole], [whole])


def test_a_draw_that_cannot_be_validated_takes_the_penalty_without_a_choice(
    few_images: LabelledExamples, strokes: Backbone
) -> None:
    found = probe_for(few_images, strokes, spec_of(label_budget=LabelBudget(1)))
    assert (found.inverse_penalty, found.validation, found.folds) == (UNVALIDATED_PENALTY, None, ())


def test_a_draw_is_cross_validated_if_the_val_split_belongs_to_the_pool(
    few_images: LabelledExamples,
) -> None:
    subset = drawn(few_images, spec_of())
    rows, folds = parts_of_draw(few_images, subset, OUTSIDE)
    assert np.array_equal(rows, subset)
    assert sorted(np.concatenate([fold.val for fold in folds])) == list(range(len(subset)))


def test_validation_outside_the_budget_gives_one_fold_that_is_the_whole_draw(
    with_val_split: LabelledExamples, strokes: Backbone
) -> None:
    found = probe_for(with_val_split, strokes, spec_of(validation=OUTSIDE))
    assert found.validation is not None
    assert found.validation.count == len(with_val_split.indices(Split.VAL))
    (fold,) = found.folds
    assert torch.allclose(fold.weight, found.whole.weight, atol=2e-2)


# The memo


@pytest.mark.usefixtures("few_penalties")
def test_a_remembered_probe_is_not_fitted_again(
    few_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = ProbeMemo()
    first = probe_for(few_images, strokes, spec_of(), memo)
    monkeypatch.setattr(probing, "fit_path", lambda *_, **__: pytest.fail("fitted again"))
    assert probe_for(few_images, strokes, spec_of(freeze_depth=0.5, lr=0.1, steps=9), memo) is first


@pytest.mark.parametrize(
    "changed",
    [
        {"label_budget": LabelBudget(3)},
        {"repeat": 1},
        {"seed": 1},
        {"validation": Validation(3)},
        {"validation": Validation(folds=None, holdout=0.3)},
        {"image_size": 16},
    ],
)
@pytest.mark.usefixtures("few_penalties")
def test_a_probe_of_another_draw_fold_or_size_is_fitted_anew(
    few_images: LabelledExamples, strokes: Backbone, changed: dict[str, Any]
) -> None:
    memo = ProbeMemo()
    first = probe_for(few_images, strokes, spec_of(), memo)
    other = probe_for(few_images, strokes, spec_of(**changed), memo)
    assert other is not first
    assert probe_for(few_images, strokes, spec_of(**changed), memo) is other


def test_a_probe_of_other_labels_or_weights_is_fitted_anew(
    few_images: LabelledExamples, strokes: Backbone
) -> None:
    memo = ProbeMemo()
    first = probe_for(few_images, strokes, spec_of(), memo)
    subset = drawn(few_images, spec_of())
    labels = few_images.labels.copy()
    labels[subset[:4]], labels[subset[4:8]] = labels[subset[4:8]], labels[subset[:4]].copy()
    reader = features_of(few_images, strokes, spec_of())

    def again(images: LabelledExamples, key: dict[str, Any]) -> Probe:
        return probe_of_draw(
            images,
            subset,
            validation=Validation(2),
            features=lambda rows, _: fixed(reader.head_inputs(rows)),
            seed=0,
            device=torch.device("cpu"),
            features_key=key,
            memo=memo,
        )

    assert again(few_images, reader.head_inputs_key) is first
    assert again(replace(few_images, labels=labels), reader.head_inputs_key) is not first
    for part in ("weights", "precision", "device", "boundary"):
        assert again(few_images, {**reader.head_inputs_key, part: "another"}) is not first


def test_the_memo_forgets_the_least_recently_used_probe() -> None:
    features, labels = random_rows(12)
    probe = fit_probe(fixed(features), labels, folds=[], num_drawn=12, num_classes=3)
    assert probe.num_bytes == 8 * (3 * 6 + 3)
    memo = ProbeMemo(2 * probe.num_bytes)
    fitted: list[str] = []

    def get(key: str) -> None:
        memo.get(key, lambda: fitted.append(key) or replace(probe))  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert fitted == ["a", "b", "c", "b"]


def test_the_memo_keeps_nothing_that_is_too_large_for_it() -> None:
    features, labels = random_rows(12)
    probe = fit_probe(fixed(features), labels, folds=[], num_drawn=12, num_classes=3)
    memo = ProbeMemo(probe.num_bytes - 1)
    assert memo.get("a", lambda: probe) is probe
    other = replace(probe)
    assert memo.get("a", lambda: other) is other


# Trials that start from it


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.usefixtures("few_penalties")
def test_the_start_and_a_vanishing_rate_give_the_validation_predictions_of_the_probe(
    few_images: LabelledExamples,
    network: tuple[Backbone, dict[str, Any]],
    depth: float,
    kept: FeatureCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, settings = network
    spec = spec_of(freeze_depth=depth, **settings)
    predicted: list[Tensor] = []

    def watched(log_probabilities: Tensor, labels: Tensor) -> Any:
        predicted.append(log_probabilities)
        return score(log_probabilities, labels)

    with monkeypatch.context() as patch:
        patch.setattr("trainable.tasks.classification.task.score", watched)
        reports = list(Trial(spec, few_images, backbone, cache=kept).reports())
    probe = probe_for(few_images, backbone, spec, cache=kept)
    subset = drawn(few_images, spec)
    rows, folds = validation_parts(few_images, subset, validation=spec.validation)
    features = features_of(few_images, backbone, spec, kept).head_inputs(rows)
    expected = torch.cat(
        [
            classifier.log_probabilities(features[fold.val])
            for classifier, fold in zip(probe.folds, folds, strict=True)
        ]
    )
    assert len(predicted) == len(reports) == 2
    assert all(torch.allclose(one.exp(), expected.exp(), atol=1e-4) for one in predicted)
    baseline = run_baseline(
        few_images,
        backbone=backbone,
        budget=spec.label_budget,
        validation=spec.validation,
        repeats=1,
        seed=spec.seed,
        size=settings.get("image_size"),
        cache=kept,
    )
    for report in reports:
        assert report.val_loss == pytest.approx(baseline.validation.log_loss, abs=1e-4)
        assert report.val_accuracy == baseline.validation.accuracy
        assert report.val_balanced_accuracy == pytest.approx(baseline.validation.balanced_accuracy)


@pytest.mark.usefixtures("few_penalties")
def test_a_vanishing_rate_gives_the_test_predictions_of_the_probe(
    few_images: LabelledExamples, strokes: Backbone
) -> None:
    baseline = run_baseline(
        few_images,
        backbone=strokes,
        budget=LabelBudget(4),
        validation=Validation(2),
        repeats=2,
        seed=0,
    )
    for repeat, expected in enumerate(baseline.tests):
        for depth in (0.5, 1.0):
            found = Trial(spec_of(freeze_depth=depth, repeat=repeat), few_images, strokes).refit()
            assert found.arrays()["label_probability"] == pytest.approx(
                expected.arrays()["label_probability"], abs=1e-4
            )


@pytest.mark.usefixtures("few_penalties")
def test_initial_heads_are_equal_to_the_bit_at_every_depth(
    few_images: LabelledExamples,
    network: tuple[Backbone, dict[str, Any]],
    kept: FeatureCache,
    started: list[list[LinearClassifier]],
) -> None:
    backbone, settings = network
    for depth in DEPTHS:
        trial = Trial(spec_of(freeze_depth=depth, **settings), few_images, backbone, cache=kept)
        next(trial.reports())
    probe = probe_for(few_images, backbone, spec_of(**settings), cache=kept)
    assert len(started) == len(DEPTHS)
    assert all(same(heads, list(probe.folds)) for heads in started)


@pytest.mark.usefixtures("few_penalties")
def test_initial_heads_are_equal_with_a_memo_a_cache_and_views(
    few_images: LabelledExamples,
    strokes: Backbone,
    started: list[list[LinearClassifier]],
    kept: FeatureCache,
) -> None:
    views = Augmentation.parse({"ops": ["horizontal_flip"], "views": 2})
    memo = ProbeMemo()
    reports = []
    ways: list[tuple[TrialSpec, dict[str, Any]]] = [
        (spec_of(), {}),
        (spec_of(), {"cache": kept}),
        (spec_of(), {"cache": kept}),
        (spec_of(), {"probes": memo}),
        (spec_of(), {"probes": memo}),
        (spec_of(augment=views), {}),
    ]
    for spec, given in ways:
        found = list(Trial(spec, few_images, strokes, **given).reports())
        reports.append([replace(report, elapsed_s=0.0) for report in found])
    assert all(same(heads, started[0]) for heads in started)
    assert all(found == reports[0] for found in reports[:-1])


@pytest.mark.usefixtures("few_penalties")
def test_a_refit_starts_from_the_probe_of_the_whole_draw(
    few_images: LabelledExamples, strokes: Backbone, started: list[list[LinearClassifier]]
) -> None:
    Trial(spec_of(repeat=1), few_images, strokes).refit()
    ((head,),) = started
    assert same([head], [probe_for(few_images, strokes, spec_of(repeat=1)).whole])


def test_a_trial_validated_outside_its_budget_starts_from_the_probe_of_its_draw(
    with_val_split: LabelledExamples, strokes: Backbone, started: list[list[LinearClassifier]]
) -> None:
    spec = spec_of(validation=OUTSIDE, label_budget=LabelBudget(1))
    report = next(iter(Trial(spec, with_val_split, strokes).reports()))
    probe = probe_for(with_val_split, strokes, spec)
    assert same(started[0], list(probe.folds))
    assert probe.validation is not None
    assert report.val_loss == pytest.approx(probe.validation.log_loss, abs=1e-4)


def test_a_zero_head_fits_no_probe(
    few_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "fit_path", lambda *_, **__: pytest.fail("a probe was fitted"))
    for depth in (0.5, 1.0):
        spec = spec_of(head_init="zero", freeze_depth=depth)
        *_, last = Trial(spec, few_images, strokes).reports()
        assert last.val_loss == pytest.approx(np.log(10), abs=1e-4)
