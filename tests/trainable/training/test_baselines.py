import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainable.backbones import Backbone, Preprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.errors import DataError
from trainable.modalities.image.preprocessing import decode
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation
from trainable.training import probe
from trainable.training.baseline_features import PixelFeatures
from trainable.training.baselines import BaselineResult, run_baseline
from trainable.training.logistic import fit_path
from trainable.training.probe import INVERSE_PENALTIES, UNVALIDATED_PENALTY, probe_of_draw

pytestmark = pytest.mark.usefixtures("one_thread")


def run(
    images: LabelledExamples, backbone: Backbone | None = None, **changed: Any
) -> BaselineResult:
    settings: dict[str, Any] = {
        "budget": LabelBudget(5),
        "validation": Validation(3),
        "repeats": 2,
        "seed": 0,
    }
    return run_baseline(images, backbone=backbone, **{**settings, **changed})


def same(one: BaselineResult, other: BaselineResult) -> bool:
    return (
        one.inverse_penalties == other.inverse_penalties
        and one.validation == other.validation
        and len(one.tests) == len(other.tests)
        and all(
            np.array_equal(a.arrays()["label_probability"], b.arrays()["label_probability"])
            for a, b in zip(one.tests, other.tests, strict=True)
        )
    )


def test_pixels_and_probe_beat_chance_clearly_and_the_probe_beats_pixels(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    pixels, probe = run(digit_images), run(digit_images, strokes)
    assert all(result.scores.objective(Metric.ACCURACY) > 0.75 for result in pixels.tests)
    assert all(result.scores.objective(Metric.ACCURACY) > 0.9 for result in probe.tests)
    assert pixels.validation.objective(Metric.ACCURACY) > 0.6
    assert probe.validation.objective(Metric.ACCURACY) > pixels.validation.objective(
        Metric.ACCURACY
    )
    assert (pixels.num_features, probe.num_features) == (3 * 8 * 8, 96)


def test_counts_are_those_of_the_budget(digit_images: LabelledExamples) -> None:
    result = run(digit_images, repeats=3)
    assert (result.labels_used, result.folds, result.validation.count) == (50, 3, 50)
    assert len(result.tests) == 3
    assert [test.scores.count for test in result.tests] == [797] * 3
    accuracies = {test.scores.accuracy for test in result.tests}
    assert len(accuracies) > 1


def test_a_group_never_trains_and_validates_a_baseline(digit_images: LabelledExamples) -> None:
    alone = replace(digit_images, groups=digit_images.labels)
    with pytest.raises(DataError, match="A group cannot both train and validate"):
        run(alone)
    halves = np.zeros(len(digit_images), dtype=np.int64)
    rows = draw_subset(digit_images, budget=LabelBudget(5), repeat=0, seed=0)
    halves[rows.reshape(10, 5)[:, :2].flatten()] = 1
    assert run(replace(digit_images, groups=halves)).folds == 2


def test_a_later_draw_that_cannot_be_validated_is_still_fitted(
    digit_images: LabelledExamples,
) -> None:
    draws = [
        draw_subset(digit_images, budget=LabelBudget(2), repeat=repeat, seed=0) for repeat in (0, 1)
    ]
    groups = np.arange(len(digit_images))
    assert not set(draws[1][:2]) & set(draws[0])
    groups[draws[1][:2]] = groups[draws[1][0]]
    result = run(replace(digit_images, groups=groups), budget=LabelBudget(2))
    assert result.folds == 2
    assert result.inverse_penalties[1] == UNVALIDATED_PENALTY
    assert result.tests[1].scores.objective(Metric.ACCURACY) > 0.5


def test_baselines_are_the_same_every_time(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    for backbone in (None, strokes):
        first = run(digit_images, backbone)
        run(digit_images, strokes, seed=3, repeats=1)
        assert same(run(digit_images, backbone), first)


def test_the_penalty_of_each_repeat_is_chosen_on_its_own_draw(
    digit_images: LabelledExamples,
) -> None:
    one, three = run(digit_images, repeats=1), run(digit_images, repeats=3)
    assert (one.inverse_penalties, one.validation) == (
        three.inverse_penalties[:1],
        three.validation,
    )
    subset = draw_subset(digit_images, budget=LabelBudget(5), repeat=2, seed=0)
    draws = probe_of_draw(
        digit_images,
        subset,
        validation=Validation(3),
        features=lambda rows, _: PixelFeatures(digit_images, subset, device=torch.device("cpu")).of(
            rows
        ),
        seed=0,
        device=torch.device("cpu"),
        features_key={},
    )
    assert three.inverse_penalties[2] == draws.inverse_penalty
    assert np.array_equal(one.tests[0].arrays()["predicted"], three.tests[0].arrays()["predicted"])


def test_images_and_labels_outside_the_draws_do_not_matter(digit_images: LabelledExamples) -> None:
    draws = [
        draw_subset(digit_images, budget=LabelBudget(5), repeat=repeat, seed=0) for repeat in (0, 1)
    ]
    keep = np.sort(np.unique(np.concatenate([*draws, digit_images.indices(Split.TEST)])))
    assert len(keep) < 900
    reduced = replace(
        digit_images,
        shard_of=digit_images.shard_of[keep],
        starts=digit_images.starts[keep],
        stops=digit_images.stops[keep],
        digests=digit_images.digests[keep],
        labels=digit_images.labels[keep],
        split=digit_images.split[keep],
        paths=tuple(digit_images.paths[i] for i in keep),
    )
    assert same(run(reduced), run(digit_images))


def test_test_labels_change_neither_the_penalty_nor_a_prediction(
    digit_images: LabelledExamples,
) -> None:
    labels = digit_images.labels.copy()
    test = digit_images.indices(Split.TEST)
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    honest, scrambled = run(digit_images), run(replace(digit_images, labels=labels))
    assert honest.inverse_penalties == scrambled.inverse_penalties
    assert honest.validation == scrambled.validation
    for one, other in zip(honest.tests, scrambled.tests, strict=True):
        assert np.array_equal(one.arrays()["predicted"], other.arrays()["predicted"])
        assert one.scores.objective(Metric.ACCURACY) > other.scores.objective(Metric.ACCURACY) + 0.3


def test_test_predictions_are_those_of_the_penalty_chosen(digit_images: LabelledExamples) -> None:
    result = run(digit_images)
    features = (
        decode(digit_images, np.arange(len(digit_images)), Preprocessing(8, 8)).flatten(1) / 255
    )
    labels = torch.from_numpy(digit_images.labels)
    unseen = digit_images.indices(Split.TEST)
    for repeat, test in enumerate(result.tests):
        draw = draw_subset(digit_images, budget=LabelBudget(5), repeat=repeat, seed=0)
        (classifier,) = fit_path(
            features[draw],
            labels[draw],
            num_classes=10,
            inverse_penalties=[result.inverse_penalties[repeat]],
        )
        expected = classifier.log_probabilities(features[unseen]).max(dim=1)
        assert np.array_equal(test.arrays()["predicted"], expected.indices.numpy())
        assert test.arrays()["probability"] == pytest.approx(
            expected.values.exp().numpy(), abs=1e-5
        )


def grey_images(values: list[int], labels: list[int], test: int) -> LabelledExamples:
    """Images of 6 x 9 pixels with one grey level each; the last `test` images are test images."""
    files = []
    for value in values:
        buffer = io.BytesIO()
        Image.new("L", (9, 6), value).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return LabelledExamples.from_bytes(
        files,
        labels=labels,
        split=[Split.POOL] * (len(values) - test) + [Split.TEST] * test,
        class_names=["dark", "light"],
        paths=[f"{i}.png" for i in range(len(values))],
    )


def test_log_loss_chooses_the_penalty_among_equal_accuracies() -> None:
    values = [10, 200, 15, 210, 20, 220, 25, 230, 12, 215]
    images = grey_images(values, [0, 1] * 5, test=2)
    result = run(images, validation=Validation(2))
    assert result.validation.accuracy == 1
    assert result.inverse_penalties == (INVERSE_PENALTIES[-1],) * 2


def test_equal_scores_choose_the_strongest_penalty() -> None:
    images = grey_images([77] * 10, [0, 1] * 5, test=2)
    result = run(images, validation=Validation(2))
    assert result.validation.log_loss == pytest.approx(np.log(2))
    assert result.inverse_penalties == (INVERSE_PENALTIES[0],) * 2


def test_pixels_are_seen_at_the_smallest_side_whatever_size_a_backbone_is_given() -> None:
    images = grey_images([10, 200, 15, 210, 20, 220], [0, 1] * 3, test=2)
    assert run(images, validation=Validation(2)).num_features == 3 * 6 * 6
    assert run(images, validation=Validation(2), size=2).num_features == 3 * 6 * 6


def test_pixels_of_large_images_are_few() -> None:
    files = []
    for value in (10, 200, 15, 210, 20, 220):
        buffer = io.BytesIO()
        Image.new("L", (70, 60), value).save(buffer, "PNG")
        files.append(buffer.getvalue())
    images = LabelledExamples.from_bytes(
        files,
        labels=[0, 1] * 3,
        split=[Split.POOL] * 4 + [Split.TEST] * 2,
        class_names=["dark", "light"],
        paths=[str(i) for i in range(6)],
    )
    assert run(images, validation=Validation(2)).num_features == 3 * 32 * 32


def test_baseline_without_test_images_is_an_error(digit_images: LabelledExamples) -> None:
    pool = replace(digit_images, split=np.full(len(digit_images), int(Split.POOL)))
    with pytest.raises(DataError, match="there is no test image; a baseline is always scored"):
        run(pool)


def test_a_budget_too_small_for_validation_is_an_error(digit_images: LabelledExamples) -> None:
    with pytest.raises(DataError, match="needs 2 or more labels of every class"):
        run(digit_images, budget=LabelBudget(1))


OUTSIDE = Validation(folds=None, outside=True)


@pytest.fixture
def with_val_split(digit_images: LabelledExamples) -> LabelledExamples:
    split = digit_images.split.copy()
    split[digit_images.indices(Split.POOL)[::5]] = Split.VAL
    return replace(digit_images, split=split)


def test_validation_outside_the_budget_takes_no_label_of_it(
    with_val_split: LabelledExamples,
) -> None:
    result = run(with_val_split, validation=OUTSIDE, budget=LabelBudget(1))
    num_val = len(with_val_split.indices(Split.VAL))
    assert (result.labels_used, result.folds, result.validation.count) == (10, 1, num_val)


def test_labels_of_the_val_split_train_no_baseline(
    with_val_split: LabelledExamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These labels may choose the penalty, so that only one penalty is tried here.
    monkeypatch.setattr(probe, "INVERSE_PENALTIES", (1.0,))
    labels = with_val_split.labels.copy()
    apart = with_val_split.indices(Split.VAL)
    labels[apart] = np.random.default_rng(0).permutation(labels[apart])
    honest, scrambled = (
        run(images, validation=OUTSIDE, budget=LabelBudget(1))
        for images in (with_val_split, replace(with_val_split, labels=labels))
    )
    assert (
        honest.validation.objective(Metric.ACCURACY)
        > scrambled.validation.objective(Metric.ACCURACY) + 0.2
    )
    for one, other in zip(honest.tests, scrambled.tests, strict=True):
        assert np.array_equal(
            one.arrays()["label_probability"], other.arrays()["label_probability"]
        )
