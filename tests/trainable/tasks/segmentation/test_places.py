"""Choice of the pixels on which heads are fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.builders.masked_examples import masked_examples, with_masks
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED
from trainable.errors import DataError
from trainable.tasks import Places
from trainable.tasks.segmentation.places import LEAST, MOST, PIXELS
from trainable.tasks.segmentation.task import SEGMENTATION

ROWS = np.array([5, 2, 7, 0])


@pytest.fixture(scope="module")
def examples() -> LabelledExamples:
    return masked_examples()


def places_of(
    examples: LabelledExamples,
    rows: npt.NDArray[np.int64] = ROWS,
    *,
    drawn: int = 10,
    seed: int = 0,
) -> Places:
    found = SEGMENTATION.places(examples, rows, drawn=drawn, seed=seed)
    assert found is not None
    return found


def same(one: Places, other: Places) -> bool:
    return torch.equal(one.points, other.points) and torch.equal(one.labels, other.labels)


def test_places_depend_on_no_other_image_and_on_no_order(examples: LabelledExamples) -> None:
    found = places_of(examples)
    assert same(places_of(examples, ROWS[::-1]), Places(found.points.flip(0), found.labels.flip(0)))
    alone = places_of(examples, ROWS[1:2])
    assert same(alone, Places(found.points[1:2], found.labels[1:2]))
    order = np.random.default_rng(0).permutation(len(examples))
    moved = np.array([int(np.flatnonzero(order == row)[0]) for row in ROWS])
    assert same(places_of(examples.at(order), moved), found)


def test_another_seed_chooses_other_places(examples: LabelledExamples) -> None:
    found, again, other = (places_of(examples, seed=seed) for seed in (0, 0, 1))
    assert same(found, again)
    assert not torch.equal(found.points, other.points)


def test_places_are_centres_of_pixels_with_their_classes(examples: LabelledExamples) -> None:
    assert examples.masks is not None
    found = places_of(examples)
    for row, points, labels in zip(
        ROWS.tolist(), found.points.numpy(), found.labels.numpy(), strict=True
    ):
        mask = examples.masks.mask(row)
        sides = np.array(mask.shape[::-1])
        positions = ((points + 1) * sides - 1) / 2
        columns, lines = positions.round().astype(int).T
        assert np.abs(positions - positions.round()).max() < 1e-4
        assert np.array_equal(mask[lines, columns], labels)
        assert (mask == IGNORED).any()
        assert set(labels.tolist()) == {0, 1, 2}
        # They are spread over the image, and not taken in its order.
        assert np.abs(points.mean(axis=0)).max() < 0.35


def test_pixels_are_chosen_by_the_mask_alone_where_few_have_a_class(
    examples: LabelledExamples,
) -> None:
    lonely = np.full((32, 40), IGNORED, dtype=np.uint8)
    lonely[3, 10] = 2
    found = places_of(with_masks(examples, {1: lonely}), np.array([1]))
    assert (found.labels == 2).all()
    assert np.allclose(found.points, [(2 * 10 + 1) / 40 - 1, (2 * 3 + 1) / 32 - 1])


def test_a_mask_without_a_class_is_refused_by_the_path_of_its_image(
    examples: LabelledExamples,
) -> None:
    blank = np.full((32, 32), IGNORED, dtype=np.uint8)
    changed = with_masks(examples, {0: blank})
    with pytest.raises(DataError, match=r"^image0\.png: no pixel of its mask has a class"):
        places_of(changed)
    assert len(places_of(changed, ROWS[:3]).labels) == 3


def test_the_more_images_are_drawn_the_fewer_places_has_each(examples: LabelledExamples) -> None:
    numbers = [places_of(examples, drawn=drawn).labels.shape[1] for drawn in (1, 8, 20, 10**6)]
    assert numbers == [MOST, PIXELS // 8, PIXELS // 20, LEAST]
    assert numbers == sorted(numbers, reverse=True)
    assert places_of(examples, drawn=8).points.shape == (len(ROWS), PIXELS // 8, 2)
