import copy
import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from trainable.backbones import Backbone, Preprocessing, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, split_folds
from trainable.device import default_device, describe
from trainable.errors import DataError, SpecError
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import Speeds
from trainable.features.store import FeatureStore
from trainable.modalities.image import inputs
from trainable.modalities.image.preprocessing import decode
from trainable.spec.augmentation import Augmentation
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.tasks.classification import task as classification
from trainable.tasks.classification.results import ClassResult
from trainable.tasks.classification.scores import ClassScores, score
from trainable.training import probe, setup, trial
from trainable.training.interpolation import SHARES
from trainable.training.learner import DivergedError
from trainable.training.results import Report
from trainable.training.suffix_learner import SuffixLearner
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread", "few_penalties")

Rows = npt.NDArray[np.int64]


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": 1e-3,
        "label_budget": LabelBudget(4),
        "freeze_depth": 0.75,
        "validation": Validation(2),
        "steps": 4,
        "reports": 2,
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def outcome(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """All numbers of the reports except times."""
    return [{k: v for k, v in asdict(report).items() if k != "elapsed_s"} for report in reports]


def run(images: LabelledExamples, backbone: Backbone, **changed: Any) -> list[dict[str, Any]]:
    return outcome(Trial(spec_of(**changed), images, backbone).reports())


def rows_of(images: LabelledExamples, rows: Rows) -> LabelledExamples:
    """The images of some rows, in the order given."""
    return replace(
        images,
        shard_of=images.shard_of[rows],
        starts=images.starts[rows],
        stops=images.stops[rows],
        digests=images.digests[rows],
        labels=images.labels[rows],
        split=images.split[rows],
        paths=tuple(images.paths[i] for i in rows),
    )


def drawn(images: LabelledExamples, per_class: int = 4) -> Rows:
    return draw_subset(images, budget=LabelBudget(per_class), repeat=0, seed=0)


def shuffled_labels(images: LabelledExamples, rows: Rows) -> LabelledExamples:
    """The images with the labels of some rows permuted among these rows."""
    labels = images.labels.copy()
    labels[rows] = np.random.default_rng(0).permutation(labels[rows])
    assert (labels != images.labels).any()
    return replace(images, labels=labels)


# Reports


def test_report_zero_is_the_start_and_the_last_one_ends_at_the_last_step(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    for steps, reports, expected in [
        (7, 3, [0, 2, 5, 7]),
        (3, 3, [0, 1, 2, 3]),
        (5, 4, [0, 1, 2, 4, 5]),
        (4, 1, [0, 4]),
    ]:
        found = run(digit_images, strokes, steps=steps, reports=reports, freeze_depth=1.0)
        assert [report["report"] for report in found] == list(range(reports + 1))
        assert [report["step"] for report in found] == expected
        assert [report["train_loss"] is None for report in found] == [True] + [False] * reports


def test_reports_score_the_pooled_predictions_of_all_folds(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(predictions: Tensor, labels: Tensor) -> ClassScores:
        seen.append((predictions, labels))
        return score(predictions, labels)

    monkeypatch.setattr(classification, "score", watched)
    found = run(digit_images, strokes)
    subset = drawn(digit_images)
    folds = split_folds(digit_images.labels[subset], validation=Validation(2))
    truth = np.concatenate([digit_images.labels[subset[fold.val]] for fold in folds])
    for (predictions, labels), report in zip(seen, found, strict=True):
        assert np.array_equal(labels.numpy(), truth)
        scores = score(predictions, torch.from_numpy(truth))
        assert report["val_accuracy"] == scores.accuracy
        assert report["val_balanced_accuracy"] == scores.balanced_accuracy
        assert report["val_loss"] == scores.log_loss


@pytest.mark.parametrize(
    ("objective", "key"),
    [
        (Metric.ACCURACY, "val_accuracy"),
        (Metric.BALANCED_ACCURACY, "val_balanced_accuracy"),
        (Metric.LOG_LOSS, "val_loss"),
    ],
)
def test_objective_of_a_report_is_the_metric_of_the_spec(
    digit_images: LabelledExamples, strokes: Backbone, objective: Metric, key: str
) -> None:
    # Classes differ in size, so that accuracy and balanced accuracy differ.
    rows = np.flatnonzero((digit_images.labels > 4) | (np.arange(1797) < 400))
    images = rows_of(digit_images, rows)
    for report in run(images, strokes, objective=objective, label_budget=LabelBudget(total=60)):
        assert len({report["val_accuracy"], report["val_balanced_accuracy"]}) == 2
        assert report["val_objective"] == report[key]


def test_training_lowers_the_losses(digit_images: LabelledExamples, strokes: Backbone) -> None:
    found = run(digit_images, strokes, freeze_depth=1.0, steps=20, lr=3e-2)
    assert found[-1]["train_loss"] < found[1]["train_loss"] < np.log(10)
    assert found[-1]["val_loss"] < np.log(10)
    assert found[-1]["val_accuracy"] > 0.7


def test_elapsed_time_grows_and_timings_add_up_to_less(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(), digit_images, strokes)
    reports = list(trial.reports())
    assert 0 < reports[0].elapsed_s < reports[1].elapsed_s
    assert all(seconds > 0 for seconds in trial.timings.values())
    assert sum(trial.timings.values()) <= reports[-1].elapsed_s
    assert trial.peak_memory_bytes() > 2**20


# Determinism


@pytest.mark.parametrize("freeze_depth", [0.0, 0.75, 1.0])
def test_same_spec_gives_the_same_reports_to_the_bit_whatever_ran_before(
    digit_images: LabelledExamples, strokes: Backbone, freeze_depth: float
) -> None:
    fresh = Backbone(load_weights("tiny_strokes"))
    first = run(digit_images, fresh, freeze_depth=freeze_depth)
    run(digit_images, strokes, lr=0.3, freeze_depth=0.5, batchnorm="train", seed=7)
    Trial(spec_of(freeze_depth=0.25), digit_images, strokes).refit()
    torch.manual_seed(123)
    assert run(digit_images, strokes, freeze_depth=freeze_depth) == first


def test_trials_that_take_turns_give_what_they_give_alone(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    alone = [run(digit_images, strokes, lr=lr) for lr in (1e-3, 1e-2)]
    first, second = (Trial(spec_of(lr=lr), digit_images, strokes).reports() for lr in (1e-3, 1e-2))
    turns = list(zip(first, second, strict=True))
    assert [outcome(pair[i] for pair in turns) for i in (0, 1)] == alone


def test_order_of_the_rows_changes_nothing(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    order = np.random.default_rng(0).permutation(len(digit_images))
    assert run(rows_of(digit_images, order), strokes) == run(digit_images, strokes)


def test_seed_and_repeat_change_the_outcome(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    base = run(digit_images, strokes)
    assert run(digit_images, strokes, seed=1) != base
    assert run(digit_images, strokes, repeat=1) != base


@pytest.mark.parametrize("freeze_depth", [0.0, 0.75])
def test_no_trial_touches_the_weights_of_the_backbone(
    digit_images: LabelledExamples, freeze_depth: float
) -> None:
    backbone = Backbone(load_weights("tiny_strokes"))
    module = backbone.traced(8).module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trial = Trial(
        spec_of(freeze_depth=freeze_depth, batchnorm="train", lr=0.1), digit_images, backbone
    )
    list(trial.reports())
    trial.refit()
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    shipped = load_weights("tiny_strokes").arrays
    assert all(np.array_equal(backbone.weights.arrays[name], shipped[name]) for name in shipped)


def test_labels_are_drawn_by_the_budget_seed_and_repeat_of_the_spec(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Rows] = []

    def watched(images: LabelledExamples, indices: Rows, preprocessing: Preprocessing) -> Tensor:
        decoded.append(indices)
        return decode(images, indices, preprocessing)

    monkeypatch.setattr(inputs, "decode", watched)
    budget = LabelBudget(total=33)
    list(Trial(spec_of(label_budget=budget, seed=5, repeat=2), digit_images, strokes).reports())
    expected = draw_subset(digit_images, budget=budget, repeat=2, seed=5)
    assert len(decoded) == 2  # for the probe and for the prefix, because there is no cache
    assert all(np.array_equal(rows, expected) for rows in decoded)


def test_views_are_kept_if_those_of_the_labelled_images_fit(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    spec = spec_of(augment=Augmentation.parse({"ops": ["horizontal_flip"], "views": 8}))
    cut = boundaries(strokes.traced(8))[4]
    # A boundary may take a quarter: enough for 8 views of 40 images, too little for 1,797 images.
    max_bytes = 5 * (8 * 40) * 4 * math.prod(cut.shape)
    kept = FeatureCache(
        store=FeatureStore(tmp_path, max_bytes=max_bytes),
        mode=CacheMode.AUTO,
        speeds=Speeds(flops=1e6, values=1e30, read_bytes=1e12, write_bytes=1e12),
        num_images=len(digit_images),
    )
    runs = [Trial(spec, digit_images, strokes, cache=kept) for _ in range(2)]
    first, second = [outcome(run.reports()) for run in runs]
    assert first == second
    assert runs[0].counts.computed_flops >= (8 + 1) * 40 * cut.flops
    assert runs[1].counts.computed_flops == 40 * cut.flops  # images as they are, for validation


# Data that a trial may use


def test_pool_images_outside_the_budget_change_nothing_if_they_are_missing(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    keep = np.sort(np.concatenate([drawn(digit_images), digit_images.indices(Split.TEST)]))
    assert len(keep) == 40 + 797
    assert run(rows_of(digit_images, keep), strokes) == run(digit_images, strokes)


def test_labels_outside_the_budget_change_nothing(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = drawn(digit_images)
    outside = np.setdiff1d(digit_images.indices(Split.POOL), subset)
    scrambled = shuffled_labels(digit_images, outside)
    expected = run(digit_images, strokes)
    result = Trial(spec_of(), digit_images, strokes).refit()
    # Other labels could change the draw; here the drawn images are fixed.
    monkeypatch.setattr(trial, "draw_subset", lambda *_, **__: subset)
    assert run(scrambled, strokes) == expected
    again = Trial(spec_of(), scrambled, strokes).refit()
    assert np.array_equal(again.arrays()["label_probability"], result.arrays()["label_probability"])
    inside = shuffled_labels(digit_images, subset)
    assert run(inside, strokes) != expected


def test_test_labels_change_no_report_and_no_prediction(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    scrambled = shuffled_labels(digit_images, digit_images.indices(Split.TEST))
    assert run(scrambled, strokes) == run(digit_images, strokes)
    honest, other = (
        Trial(spec_of(), images, strokes).refit() for images in (digit_images, scrambled)
    )
    assert np.array_equal(honest.arrays()["predicted"], other.arrays()["predicted"])
    assert np.array_equal(honest.arrays()["probability"], other.arrays()["probability"])
    assert honest.scores.objective(Metric.ACCURACY) > other.scores.objective(Metric.ACCURACY) + 0.5


@pytest.mark.parametrize("freeze_depth", [0.5, 1.0])
def test_labels_of_a_fold_do_not_reach_the_predictions_of_that_fold(
    digit_images: LabelledExamples,
    strokes: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    freeze_depth: float,
) -> None:
    subset = drawn(digit_images)
    folds = split_folds(digit_images.labels[subset], validation=Validation(2))
    monkeypatch.setattr(trial, "draw_subset", lambda *_, **__: subset)
    for module in (trial, probe):
        monkeypatch.setattr(module, "validation_parts", lambda *_, **__: (subset, folds))
    # These labels may choose the penalty of the probe, so that only one penalty is tried here.
    monkeypatch.setattr(probe, "INVERSE_PENALTIES", (1.0,))
    seen: list[Tensor] = []

    def watched(predictions: Tensor, labels: Tensor) -> ClassScores:
        seen.append(predictions)
        return score(predictions, labels)

    monkeypatch.setattr(classification, "score", watched)
    held_out = subset[folds[0].val]
    run(digit_images, strokes, freeze_depth=freeze_depth, reports=1)
    scrambled = shuffled_labels(digit_images, held_out)
    run(scrambled, strokes, freeze_depth=freeze_depth, reports=1)
    (_, honest), (_, other) = seen[:2], seen[2:]
    assert torch.equal(honest[: len(held_out)], other[: len(held_out)])
    assert not torch.equal(honest[len(held_out) :], other[len(held_out) :])


@pytest.fixture
def with_val_split(digit_images: LabelledExamples) -> LabelledExamples:
    """The images with every fifth image of the pool moved to the validation split."""
    split = digit_images.split.copy()
    split[digit_images.indices(Split.POOL)[::5]] = Split.VAL
    return replace(digit_images, split=split)


OUTSIDE = Validation(folds=None, outside=True)


@pytest.mark.parametrize("augment", [None, {"ops": ["rotation"], "views": 2}])
def test_validation_outside_the_budget_scores_the_val_split_and_trains_on_the_whole_budget(
    with_val_split: LabelledExamples, strokes: Backbone, augment: dict[str, Any] | None
) -> None:
    views = None if augment is None else Augmentation.parse(augment)
    spec = spec_of(validation=OUTSIDE, label_budget=LabelBudget(1), augment=views)
    trial = Trial(spec, with_val_split, strokes)
    facts = trial.facts()
    num_val = len(with_val_split.indices(Split.VAL))
    assert (facts.folds, facts.num_val, facts.labels_used) == (1, num_val, 10)
    *_, last = trial.reports()
    assert round(last.val_objective * num_val) == pytest.approx(last.val_objective * num_val)
    assert last.val_objective > 0.5


def test_automatic_views_are_those_for_the_images_of_the_budget(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    counted, automatic = (
        run(
            digit_images,
            strokes,
            augment=Augmentation.parse({"ops": ["rotation"], "views": views}),
        )
        for views in (40, "auto")  # of 40 images
    )
    assert counted == automatic


def test_labels_of_the_val_split_reach_no_prediction(
    with_val_split: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These labels may choose the penalty of the probe, so that only one penalty is tried here.
    monkeypatch.setattr(probe, "INVERSE_PENALTIES", (1.0,))
    scrambled = shuffled_labels(with_val_split, with_val_split.indices(Split.VAL))
    spec = spec_of(validation=OUTSIDE)
    honest, other = (Trial(spec, images, strokes).refit() for images in (with_val_split, scrambled))
    assert np.array_equal(honest.arrays()["probability"], other.arrays()["probability"])
    first, second = (
        outcome(Trial(spec, i, strokes).reports()) for i in (with_val_split, scrambled)
    )
    assert [r["train_loss"] for r in first] == [r["train_loss"] for r in second]
    assert first[-1]["val_accuracy"] > second[-1]["val_accuracy"] + 0.5


def test_validation_outside_the_budget_needs_a_val_split(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(validation=OUTSIDE), digit_images, strokes)
    with pytest.raises(DataError, match="needs a validation split of the data's own, and there"):
        next(iter(trial.reports()))


def test_reports_need_no_test_image_and_a_refit_does(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    pool = rows_of(digit_images, digit_images.indices(Split.POOL))
    trial = Trial(spec_of(), pool, strokes)
    assert len(list(trial.reports())) == 1 + 2
    with pytest.raises(DataError, match="there is no test image; a refit is always scored"):
        trial.refit()


# The facts


def test_facts_count_labels_folds_and_images(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(
        spec_of(label_budget=LabelBudget(5), freeze_depth=0.5, validation=Validation(3)),
        digit_images,
        strokes,
    )
    facts = trial.facts()
    assert (facts.labels_used, facts.num_classes) == (50, 10)
    assert (facts.folds, facts.num_val) == (3, facts.labels_used)
    assert (facts.num_boundaries, facts.frozen_boundaries) == (7, 3)
    assert facts.boundary == "blocks_1_relu_1"
    assert facts.trainable_params < facts.total_params == 177_322
    share = (facts.total_params - facts.trainable_params) / facts.total_params
    assert facts.prefix_params_fraction == pytest.approx(share)
    assert 0.4 < facts.prefix_flops_fraction < 0.6
    assert (facts.weights, facts.device) == (
        "tiny_strokes",
        describe(default_device()),
    )
    resolved = facts.spec
    assert (resolved.batch_size, resolved.batchnorm) == (33, "eval")
    assert (resolved.head_init, resolved.image_size, resolved.precision) == ("logistic", 8, "fp32")


def test_folds_of_a_trial_are_no_more_than_the_groups_of_a_class(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = spec_of(label_budget=LabelBudget(4), validation=Validation(3))
    halves = np.zeros(len(digit_images), dtype=np.int64)
    rows = drawn(digit_images).reshape(10, 4)
    halves[rows[:, :2].flatten()] = 1
    grouped = replace(digit_images, groups=halves)
    facts = Trial(spec, grouped, strokes).facts()
    assert (facts.folds, facts.num_val) == (2, 40)
    alone = replace(digit_images, groups=digit_images.labels)
    with pytest.raises(DataError, match="A group cannot both train and validate"):
        next(Trial(spec, alone, strokes).reports())


def test_facts_of_the_two_ends_of_freezing(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    nothing, everything = (
        Trial(spec_of(freeze_depth=depth), digit_images, strokes).facts() for depth in (0, 1)
    )
    assert nothing.boundary is None
    assert (nothing.prefix_params_fraction, nothing.prefix_flops_fraction) == (0, 0)
    assert nothing.trainable_params == nothing.total_params == everything.total_params
    assert everything.trainable_params == 96 * 10 + 10
    assert everything.prefix_flops_fraction == pytest.approx(1.0)
    assert nothing.spec.head_init == everything.spec.head_init == "logistic"


@pytest.mark.parametrize(
    ("changed", "labels", "folds", "num_val"),
    [
        ({"validation": Validation(None, 0.25)}, 40, 1, 10),
        ({"validation": Validation(9)}, 40, 4, 40),
        ({"label_budget": LabelBudget(total=55)}, 55, 2, 55),
        ({"label_budget": LabelBudget(10**6)}, 1000, 2, 1000),
        ({"label_budget": LabelBudget()}, 1000, 2, 1000),
    ],
)
def test_facts_follow_budget_and_validation(
    digit_images: LabelledExamples,
    strokes: Backbone,
    changed: dict[str, Any],
    labels: int,
    folds: int,
    num_val: int,
) -> None:
    facts = Trial(spec_of(**changed), digit_images, strokes).facts()
    assert (facts.labels_used, facts.folds, facts.num_val) == (labels, folds, num_val)


def test_facts_become_json_with_a_spec_that_can_be_read_again(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    facts = Trial(spec_of(), digit_images, strokes).facts()
    data = facts.to_json()
    assert TrialSpec.from_json(data["spec"]) == facts.spec
    assert data["labels_used"] == 40


def test_frozen_blocks_count_boundaries(digit_images: LabelledExamples, strokes: Backbone) -> None:
    for blocks, frozen in [(0, 0), (3, 3), (-1, 7)]:
        spec = spec_of(freeze_depth=None, frozen_blocks=blocks)
        assert Trial(spec, digit_images, strokes).facts().frozen_boundaries == frozen
    with pytest.raises(SpecError, match="frozen_blocks: got 8; this backbone has 7"):
        Trial(spec_of(freeze_depth=None, frozen_blocks=8), digit_images, strokes)


@pytest.mark.parametrize(
    ("changed", "frozen", "trainable"),
    [
        ({"train_blocks": "1-1"}, 0, 3 * 32 * 9 + 2 * 32 + 970),  # the stem and the head
        ({"train_blocks": "7-7", "trainable": "bitfit"}, 6, 32 + 2 * 96 + 970),
        ({"freeze_depth": 1.0, "trainable": "bitfit"}, 7, 970),
    ],
)
def test_facts_count_trainable_parameters(
    digit_images: LabelledExamples,
    strokes: Backbone,
    changed: dict[str, Any],
    frozen: int,
    trainable: int,
) -> None:
    trial = Trial(spec_of(**{"freeze_depth": None, **changed}), digit_images, strokes)
    facts = trial.facts()
    assert (facts.frozen_boundaries, facts.trainable_params) == (frozen, trainable)
    assert len(list(trial.reports())) == 1 + 2


def test_blocks_that_the_backbone_does_not_have_are_refused(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    with pytest.raises(SpecError, match="train_blocks: got 7-8; this backbone has 7 blocks"):
        Trial(spec_of(freeze_depth=None, train_blocks="7-8"), digit_images, strokes)


# Refits and failures


def test_refit_learns_from_the_whole_budget_and_repeats_differ(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Watched(SuffixLearner):
        def __init__(self, suffix: Any, head: str, examples: Any, **rest: Any) -> None:
            sizes.append(len(examples))
            super().__init__(suffix, head, examples, **rest)

    monkeypatch.setattr(setup, "SuffixLearner", Watched)
    results = [Trial(spec_of(repeat=repeat), digit_images, strokes).refit() for repeat in (0, 0, 1)]
    assert sizes == [40, 40, 40]
    first, again, other = results
    assert np.array_equal(first.arrays()["probability"], again.arrays()["probability"])
    assert not np.array_equal(first.arrays()["probability"], other.arrays()["probability"])
    assert all(len(result.arrays()["predicted"]) == 797 for result in results)
    assert all(result.scores.objective(Metric.ACCURACY) > 0.8 for result in results)


def test_test_result_is_that_of_the_predictions_in_order() -> None:
    predictions = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]]).double().log()
    result = ClassResult.of(predictions, torch.tensor([0, 0, 1]))
    assert result.predicted.tolist() == [0, 1, 0]
    assert result.probability.tolist() == pytest.approx([0.7, 0.6, 0.9])
    assert result.label_probability.tolist() == pytest.approx([0.7, 0.4, 0.1])
    assert result.scores.accuracy == pytest.approx(1 / 3)


def test_single_label_cannot_be_validated_but_can_be_refitted(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(label_budget=LabelBudget(1)), digit_images, strokes)
    with pytest.raises(DataError, match="needs 2 or more labels of every class"):
        list(trial.reports())
    with pytest.raises(DataError, match="needs 2 or more labels of every class"):
        trial.facts()
    assert trial.refit().scores.objective(Metric.ACCURACY) > 0.5


def test_huge_learning_rate_ends_the_trial_as_diverged(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(lr=1e30, freeze_depth=0.5), digit_images, strokes)
    with pytest.raises(DivergedError, match="the training loss was nan by step"):
        list(trial.reports())


def test_broken_image_outside_the_budget_is_never_decoded_and_one_inside_is_named(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    subset = drawn(digit_images)
    pool = digit_images.indices(Split.POOL)
    outside = int(np.setdiff1d(pool, subset)[0])
    for broken, fails in [(outside, False), (int(subset[0]), True)]:
        images = copy.copy(digit_images)
        stops = images.stops.copy()
        stops[broken] = images.starts[broken] + 5
        images = replace(images, stops=stops)
        if fails:
            path = digit_images.paths[broken]
            with pytest.raises(DataError, match=f"{path}: cannot be decoded"):
                run(images, strokes)
        else:
            assert run(images, strokes) == run(digit_images, strokes)


def test_reports_use_the_interpolation_that_validates_best_once_there_are_updates(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    """If training makes the network worse, the start or a position near it is best."""
    wild = spec_of(lr=0.3, steps=20, interpolation="auto", label_budget=LabelBudget(8))
    *_, chosen = Trial(wild, digit_images, strokes).reports()
    by_share = {}
    for share in SHARES:
        *_, by_share[share] = Trial(
            replace(wild, interpolation=share), digit_images, strokes
        ).reports()
    assert replace(chosen, elapsed_s=0.0) == replace(by_share[chosen.interpolation], elapsed_s=0.0)
    assert chosen.interpolation < 1
    assert chosen.val_objective > by_share[1.0].val_objective


def test_a_refit_uses_the_interpolation_of_its_spec(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    still = Trial(spec_of(lr=1e-12), digit_images, strokes).refit()
    start = Trial(spec_of(lr=0.01, interpolation=0.0), digit_images, strokes).refit()
    middle = Trial(spec_of(lr=0.01, interpolation=0.5), digit_images, strokes).refit()
    assert np.allclose(
        start.arrays()["label_probability"], still.arrays()["label_probability"], atol=1e-5
    )
    assert not np.allclose(
        middle.arrays()["label_probability"], still.arrays()["label_probability"], atol=1e-3
    )


def test_a_refit_that_leaves_its_interpolation_to_validation_is_refused(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(interpolation="auto"), digit_images, strokes)
    with pytest.raises(SpecError, match="interpolation: got auto, which validation decides"):
        trial.refit()
    with pytest.raises(SpecError, match="interpolation: got auto, which validation decides"):
        trial.fit()
