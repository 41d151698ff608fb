from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainable.backbones import Backbone, Preprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import SpecError
from trainable.modalities.image.preprocessing import decode
from trainable.modalities.image.views import check_ops, draw_views
from trainable.spec.augmentation import OPS, Augmentation
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

PREPROCESSING = Preprocessing(image_size=16, resize_size=20)
ROWS = np.array([5, 3, 99])


def augmentation(*ops: object, views: int = 3) -> Augmentation:
    return Augmentation.parse({"ops": list(ops), "views": views})


def views_of(
    images: LabelledExamples,
    *ops: object,
    rows: Any = ROWS,
    views: int = 3,
    seed: int = 0,
    preprocessing: Preprocessing = PREPROCESSING,
) -> Tensor:
    return draw_views(
        images,
        rows,
        augmentation=augmentation(*ops, views=views),
        preprocessing=preprocessing,
        seed=seed,
    )


@pytest.mark.parametrize("name", list(OPS))
def test_every_op_makes_views_of_the_right_size_that_differ(
    digit_images: LabelledExamples, name: str
) -> None:
    check_ops(augmentation(name))
    views = views_of(digit_images, name, views=12)
    assert views.shape == (3, 12, 3, 16, 16)
    assert views.dtype == torch.uint8
    assert len(torch.unique(views.flatten(2), dim=1)[0]) > 1


def test_views_do_not_depend_on_order_or_other_images_or_how_many_are_drawn(
    digit_images: LabelledExamples,
) -> None:
    ops = ("rotation", "color_jitter")
    views = views_of(digit_images, *ops)
    assert torch.equal(views_of(digit_images, *ops, rows=ROWS[::-1]), views.flip(0))
    assert torch.equal(views_of(digit_images, *ops, rows=ROWS[1:2], views=5)[:, :3], views[1:2])


def test_views_of_the_same_bytes_are_the_same_whatever_the_row(
    digit_images: LabelledExamples,
) -> None:
    shuffled = LabelledExamples.from_bytes(
        [digit_images.encoded(i) for i in (8, 5)],
        labels=[1, 0],
        split=[Split.POOL, Split.POOL],
        class_names=["a", "b"],
        paths=["x", "y"],
    )
    first = views_of(digit_images, "rotation", rows=np.array([5]))
    assert torch.equal(views_of(shuffled, "rotation", rows=np.array([1])), first)


def test_another_seed_draws_other_views_and_global_state_is_kept(
    digit_images: LabelledExamples,
) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    views = views_of(digit_images, "rotation")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(views_of(digit_images, "rotation", seed=1), views)


def test_a_transform_of_probability_zero_gives_the_decoded_image(
    digit_images: LabelledExamples,
) -> None:
    views = views_of(digit_images, {"horizontal_flip": {"p": 0.0}})
    plain = decode(digit_images, ROWS, PREPROCESSING)
    assert all(torch.equal(views[:, view], plain) for view in range(3))
    flipped = views_of(digit_images, {"horizontal_flip": {"p": 1.0}})[:, 0]
    assert torch.equal(flipped.flip(-1), plain)


def test_a_result_that_is_too_small_is_enlarged(digit_images: LabelledExamples) -> None:
    views = views_of(digit_images, {"resized_crop": {"size": [8, 8]}})
    assert views.shape[-2:] == (16, 16)
    assert int(views.amin()) >= 0


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ({"rotation": {"degrees": "far"}}, r"augment\.ops: rotation: got .*See torchvision"),
        ({"horizontal_flip": {"q": 1}}, r"horizontal_flip: .*unexpected keyword argument 'q'"),
        ({"gaussian_blur": {"kernel_size": 4}}, "gaussian_blur: "),
    ],
)
def test_arguments_that_a_transform_does_not_take_are_refused(op: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_ops(augmentation(op))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("flip", "augment: got 'flip'; allowed: {ops: "),
        ({"ops": []}, r"augment\.ops: got \[\]; allowed: a list of horizontal_flip, "),
        ({"ops": ["horizontal_flop"]}, "did you mean horizontal_flip"),
        ({"ops": ["xyz"]}, "got 'xyz'; unknown; known: horizontal_flip, "),
        ({"ops": [{"rotation": 3}]}, "rotation: got 3; allowed: a mapping of arguments"),
        ({"ops": ["rotation"], "views": 0}, r"augment\.views: got 0; allowed: .* from 1 to 64"),
        ({"ops": ["rotation"], "views": True}, r"augment\.views: got true"),
        ({"ops": ["rotation"], "view": 2}, r"augment\.view: unknown key; known: ops, views"),
    ],
)
def test_invalid_augmentations_of_a_file_are_refused(given: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Augmentation.parse(given)


def test_an_augmentation_survives_json() -> None:
    given = {
        "ops": ["horizontal_flip", {"affine": {"degrees": 3, "scale": (0.9, 1.1)}}],
        "views": 2,
    }
    assert Augmentation.parse(given).to_json() == given
    assert Augmentation.parse(Augmentation.parse(given).to_json()) == Augmentation.parse(given)


SPEC = TrialSpec(
    backbone="tiny_strokes",
    lr=1e-3,
    label_budget=LabelBudget(4),
    freeze_depth=0.5,
    validation=Validation(2),
    steps=6,
    reports=2,
    interpolation=1.0,
)


def scores(spec: TrialSpec, images: LabelledExamples, backbone: Backbone) -> list[Any]:
    return [
        (report.train_loss, report.val_loss, report.val_accuracy)
        for report in Trial(spec, images, backbone).reports()
    ]


def test_one_view_that_changes_nothing_trains_as_without_views(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    same = augmentation({"horizontal_flip": {"p": 0.0}}, views=1)
    plain = scores(SPEC, digit_images, strokes)
    assert scores(replace(SPEC, augment=same), digit_images, strokes) == plain


def test_views_change_training_in_the_same_way_every_time(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = replace(SPEC, augment=augmentation("rotation"))
    first = scores(spec, digit_images, strokes)
    assert first != scores(SPEC, digit_images, strokes)
    assert first == scores(spec, digit_images, strokes)
    assert TrialSpec.from_json(spec.to_json()) == spec


def test_validation_and_test_images_are_seen_as_they_are(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    # At freeze depth 1 with a vanishing learning rate, only evaluation could make a difference.
    still = replace(SPEC, freeze_depth=1.0, head_init="zero", lr=1e-12)
    upside_down = augmentation({"vertical_flip": {"p": 1.0}})
    for spec in (still, replace(still, augment=upside_down)):
        trial = Trial(spec, digit_images, strokes)
        *_, last = trial.reports()
        assert last.val_loss == pytest.approx(np.log(10), abs=1e-6)
    learnt = replace(SPEC, freeze_depth=1.0, head_init="zero", lr=0.03, steps=40)
    plain = Trial(learnt, digit_images, strokes).refit().scores.objective(Metric.ACCURACY)
    turned = Trial(replace(learnt, augment=upside_down), digit_images, strokes).refit()
    assert (
        turned.scores.objective(Metric.ACCURACY) < plain - 0.1
    )  # it was trained on digits upside down
