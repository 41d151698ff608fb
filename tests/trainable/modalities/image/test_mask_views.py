"""Views of masks, which move as the views of their images do."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.builders.masked_examples import from_pixels
from trainable.backbones import Preprocessing, load_weights
from trainable.backbones.backbone import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED
from trainable.errors import SpecError
from trainable.modalities.image.modality import IMAGE
from trainable.modalities.image.views import draw_mask_views, draw_views
from trainable.spec.augmentation import OPS, Augmentation

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32
AS_IT_IS = Preprocessing(image_size=SIZE, resize_size=SIZE, squash=True)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
"""Colour of each class; what transforms bring in is black."""

MOVING = ["horizontal_flip", "vertical_flip", "rotation", "affine", "perspective", "resized_crop"]
PIXELS_ALONE = ["trivial_augment", "rand_augment", "auto_augment", "aug_mix"]
COLOURING = [name for name in OPS if name not in (*MOVING, *PIXELS_ALONE, "erasing")]

Views = npt.NDArray[np.uint8]


def augmentation(*ops: object, views: int = 4) -> Augmentation:
    return Augmentation.parse({"ops": list(ops), "views": views})


def coloured(*sizes: tuple[int, int]) -> LabelledExamples:
    """Images of some heights and widths whose colours tell the classes, in large shapes."""
    random = np.random.default_rng(0)
    masks = []
    for height, width in sizes:
        mask = np.zeros((height, width), dtype=np.uint8)
        top, left = random.integers(2, 8, 2)
        mask[top : top + height // 2, left : left + width // 3] = 1
        mask[2 * height // 3 :, width // 2 : width - int(random.integers(2, 6))] = 2
        masks.append(mask)
    return from_pixels([COLOURS[mask] for mask in masks], masks)


def views_of(
    examples: LabelledExamples, augment: Augmentation, *, seed: int = 0, size: int = SIZE
) -> tuple[Tensor, Views]:
    """(N, views, 3, size, size) pixels and (N, views, size, size) class ids of all views."""
    preprocessing = replace(AS_IT_IS, image_size=size, resize_size=size)
    pixels = draw_views(
        examples,
        np.arange(len(examples)),
        augmentation=augment,
        preprocessing=preprocessing,
        seed=seed,
    )
    masks = draw_mask_views(examples, augmentation=augment, preprocessing=preprocessing, seed=seed)
    return pixels, np.stack(list(masks)).reshape(len(examples), augment.num_views, size, size)


def told_by_colour(pixels: Tensor) -> npt.NDArray[np.int64]:
    """Class of each pixel, `IGNORED` where it is black, and -1 at edges between colours."""
    values = pixels.numpy().astype(np.int64)
    told = np.full((*values.shape[:2], *values.shape[3:]), -1)
    for label, colour in [*enumerate(COLOURS), (IGNORED, np.zeros(3))]:
        told[(np.abs(values - colour[:, None, None]) < 8).all(axis=2)] = label
    around = np.pad(told, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    alike = np.ones(told.shape, dtype=bool)
    for line in range(3):
        for column in range(3):
            alike &= told == around[:, :, line : line + SIZE, column : column + SIZE]
    return np.where(alike, told, -1)


def check_moved(pixels: Tensor, masks: Views) -> None:
    """Away from edges, masks have the classes that the colours tell."""
    told = told_by_colour(pixels)
    known = told >= 0
    assert known.mean() > 0.5
    assert np.array_equal(masks[known], told[known])


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("sizes", [((SIZE, SIZE),), ((48, 36), (30, 64))], ids=["same", "resized"])
def test_masks_move_as_their_images_do(name: str, sizes: tuple[tuple[int, int], ...]) -> None:
    examples = coloured(*sizes)
    pixels, masks = views_of(examples, augmentation(name, views=8))
    check_moved(pixels, masks)
    assert len(np.unique(masks[0], axis=0)) > 1


def test_transforms_one_after_another_move_masks_as_images() -> None:
    pixels, masks = views_of(coloured((SIZE, SIZE), (40, SIZE)), augmentation(*MOVING[:3], views=8))
    check_moved(pixels, masks)
    check_moved(*views_of(coloured((SIZE, SIZE)), augmentation("resized_crop", "rotation")))


@pytest.mark.parametrize(
    "op", [{"rotation": {"degrees": [45, 45]}}, {"affine": {"degrees": 0, "translate": [0.5, 0.5]}}]
)
def test_pixels_from_outside_the_image_are_ignored_and_no_others(op: object) -> None:
    pixels, masks = views_of(coloured((SIZE, SIZE)), augmentation(op))
    black = (pixels == 0).all(dim=2).numpy()
    assert black.any()
    assert np.array_equal(masks == IGNORED, black)
    mirrored = views_of(coloured((SIZE, SIZE)), augmentation("horizontal_flip"))[1]
    assert not (mirrored == IGNORED).any()


def test_a_fill_that_is_given_is_that_of_pixels_alone() -> None:
    op = {"rotation": {"degrees": [45, 45], "fill": 255}}
    pixels, masks = views_of(coloured((SIZE, SIZE)), augmentation(op))
    white = (pixels == 255).all(dim=2).numpy()
    assert white.any()
    assert np.array_equal(masks == IGNORED, white)


def test_ignored_pixels_move_and_stay_ignored() -> None:
    examples = coloured((SIZE, SIZE))
    assert examples.masks is not None
    mask = examples.masks.mask(0).copy()
    mask[:, :5] = IGNORED
    ignoring = from_pixels([COLOURS[examples.masks.mask(0)]], [mask])
    flip = {"horizontal_flip": {"p": 1.0}}
    _, masks = views_of(ignoring, augmentation(flip))
    assert all(np.array_equal(one, mask[:, ::-1]) for one in masks[0])


def shaded() -> LabelledExamples:
    """An image with an edge on its left side, which is also that of its two classes."""
    mask = np.ones((SIZE, SIZE), dtype=np.uint8)
    mask[:, : SIZE // 4] = 0
    pixels = np.repeat(np.where(mask == 1, 200, 40)[:, :, None], 3, axis=2).astype(np.uint8)
    return from_pixels([pixels], [mask], class_names=("left", "right"))


@pytest.mark.parametrize("name", COLOURING)
def test_colours_leave_masks_alone(name: str) -> None:
    examples = shaded()
    assert examples.masks is not None
    _, masks = views_of(examples, augmentation(name))
    assert all(np.array_equal(one, examples.masks.mask(0)) for one in masks[0])


@pytest.mark.parametrize("name", COLOURING)
def test_masks_move_as_images_behind_a_transform_of_colours(name: str) -> None:
    pixels, masks = views_of(shaded(), augmentation(name, "horizontal_flip", views=8))
    steps = pixels[0].long().diff(dim=-1).abs().sum(dim=(1, 2))
    of_images = steps.argmax(dim=-1).tolist()
    of_masks = np.abs(np.diff(masks[0].astype(int), axis=-1)).sum(axis=1).argmax(axis=-1).tolist()
    assert of_images == of_masks
    assert set(of_masks) == {SIZE // 4 - 1, SIZE - SIZE // 4 - 1}


def test_what_is_erased_keeps_its_classes() -> None:
    erasing = {"erasing": {"p": 1.0}}
    pixels, masks = views_of(coloured((SIZE, SIZE)), augmentation(erasing, "horizontal_flip"))
    erased = (pixels == 0).all(dim=2).numpy()
    assert erased.any()
    assert not (masks == IGNORED).any()
    told = pixels.argmax(dim=2).numpy()
    assert np.array_equal(masks[~erased], told[~erased])


@pytest.mark.parametrize("name", PIXELS_ALONE)
def test_a_transform_that_moves_pixels_alone_is_refused(name: str) -> None:
    message = re.escape(f"augment.ops: {name}: moves the pixels of an image but not those of its")
    with pytest.raises(SpecError, match=message):
        views_of(coloured((SIZE, SIZE)), augmentation(name))


def test_equal_seeds_give_equal_views_and_others_give_others() -> None:
    examples = coloured((SIZE, SIZE), (40, SIZE))
    augment = augmentation("rotation", "resized_crop")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    pixels, masks = views_of(examples, augment)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again_pixels, again_masks = views_of(examples, augment)
    assert torch.equal(again_pixels, pixels)
    assert np.array_equal(again_masks, masks)
    assert not np.array_equal(views_of(examples, augment, seed=1)[1], masks)


def test_views_do_not_depend_on_other_images_or_on_masks() -> None:
    examples = coloured((SIZE, SIZE), (40, SIZE))
    augment = augmentation("rotation", "resized_crop")
    pixels, masks = views_of(examples, augment)
    other_pixels, other_masks = views_of(examples.at(np.array([1, 0])), augment)
    assert torch.equal(other_pixels.flip(0), pixels)
    assert np.array_equal(other_masks[::-1], masks)
    bare = draw_views(
        replace(examples, masks=None),
        np.arange(2),
        augmentation=augment,
        preprocessing=AS_IT_IS,
        seed=0,
    )
    assert torch.equal(bare, pixels)


def test_labels_of_views_are_the_masks_of_all_views_at_the_size_of_the_network() -> None:
    backbone = Backbone(load_weights("tiny_strokes", task="segmentation"))
    examples = coloured((SIZE, SIZE), (40, SIZE))
    augment = augmentation("rotation", views=3)
    labelled = IMAGE.labels_of_views(examples, backbone, size=16, augmentation=augment, seed=4)
    assert labelled.masks is not None
    assert labelled.paths == ("image0.png",) * 3 + ("image1.png",) * 3
    _, expected = views_of(examples, augment, seed=4, size=16)
    found = np.stack([labelled.masks.mask(row) for row in range(6)])
    assert np.array_equal(found.reshape(expected.shape), expected)
