from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainable.data import examples_file
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import IGNORED, Mask, Masks
from trainable.data.shards import UNREAD
from trainable.data.subsets import draw_subset, split_folds
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation


def drawn(count: int = 5, seed: int = 0) -> list[Mask]:
    """Masks of several sizes with three classes and ignored pixels."""
    random = np.random.default_rng(seed)
    values = np.array([0, 1, 2, IGNORED], dtype=np.uint8)
    return [values[random.integers(4, size=(3 + i, 8 - i))] for i in range(count)]


def examples(count: int = 12, *, seed: int = 0) -> LabelledExamples:
    images = LabelledExamples.from_bytes(
        [bytes([i, 7]) for i in range(count)],
        labels=np.zeros(count),
        split=[Split.TEST if i % 4 == 3 else Split.POOL for i in range(count)],
        class_names=["sky", "road", "car"],
        paths=[f"{i}.png" for i in range(count)],
    )
    random = np.random.default_rng(seed)
    masks = Masks.of(random.integers(3, size=(count, 4, 6), dtype=np.uint8))
    return LabelledExamples(**{**vars(images), "masks": masks})


def test_masks_come_back_as_they_were_whatever_their_sizes_and_shards() -> None:
    given = drawn()
    for masks in (Masks.of(given), Masks.of(given, max_shard_bytes=100)):
        assert len(masks) == 5
        for index, mask in enumerate(given):
            assert np.array_equal(masks.mask(index), mask)
            assert masks.mask(index).dtype == np.uint8
    assert len(Masks.of(given, max_shard_bytes=100).shards) > 1
    some = Masks.of(given).at(np.array([3, 1]))
    assert np.array_equal(some.mask(0), given[3])


def test_a_mask_is_squashed_by_the_nearest_pixel_so_that_no_class_appears_between_others() -> None:
    mask = np.repeat(np.array([[0, 2], [IGNORED, 1]], dtype=np.uint8), 4, axis=0)
    found = Masks.of([mask]).resized(8)[0]
    assert found.shape == (8, 8)
    assert set(np.unique(found)) == {0, 1, 2, IGNORED}
    assert found[0, :4].tolist() == [0] * 4
    assert found[0, 4:].tolist() == [2] * 4


def test_the_hash_of_a_mask_is_that_of_its_size_and_its_classes() -> None:
    flat, high = np.zeros((2, 8), np.uint8), np.zeros((4, 4), np.uint8)
    digests = Masks.of([flat, high, flat]).digests
    assert digests[0].tolist() == digests[2].tolist() != digests[1].tolist()


def test_an_unread_mask_is_told() -> None:
    masks = Masks.of(drawn())
    masks.shard_of[2] = UNREAD
    with pytest.raises(DataError, match="a mask was not read"):
        masks.mask(2)


def test_examples_with_masks_survive_their_file(tmp_path: Path) -> None:
    images = examples()
    assert images.masks is not None
    images.masks.shard_of[4] = UNREAD
    examples_file.save(images, tmp_path / "images.npz")
    back = examples_file.load(tmp_path / "images.npz")
    assert back.task == "segmentation"
    assert back.masks is not None
    assert back.fingerprint() == images.fingerprint()
    for index in (0, 3, 5, 11):
        assert np.array_equal(back.masks.mask(index), images.masks.mask(index))
    assert back.masks.shard_of[4] == UNREAD


def test_a_mask_that_is_not_that_of_its_hash_is_refused(tmp_path: Path) -> None:
    images = examples()
    assert images.masks is not None
    other = replace(images.masks, digests=images.masks.digests[::-1])
    examples_file.save(replace(images, masks=other), tmp_path / "images.npz")
    with pytest.raises(DataError, match="not those of its hash"):
        examples_file.load(tmp_path / "images.npz")


def test_a_changed_mask_changes_the_fingerprints() -> None:
    one, other = examples(), examples(seed=1)
    part = [np.array([2, 1])]
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint_of(part) != other.fingerprint_of(part)
    assert one.at(np.array([2, 1])).fingerprint_of([np.arange(2)]) == one.fingerprint_of(part)


def test_each_image_has_a_mask() -> None:
    images = examples()
    with pytest.raises(DataError, match="5 masks for 12 examples"):
        LabelledExamples(**{**vars(images), "masks": Masks.of(drawn())})


@pytest.mark.parametrize(
    "budget", [LabelBudget(per_class=6), LabelBudget(total=6)], ids=["per class", "total"]
)
def test_a_budget_of_masks_counts_images_in_all_and_draws_are_nested(budget: LabelBudget) -> None:
    images = examples(40)
    drawn_ = draw_subset(images, budget=budget, repeat=1, seed=3)
    assert len(drawn_) == 6
    assert (images.split[drawn_] == Split.POOL).all()
    larger = draw_subset(images, budget=LabelBudget(per_class=11), repeat=1, seed=3)
    assert np.array_equal(larger[:6], drawn_)
    assert not np.array_equal(draw_subset(images, budget=budget, repeat=2, seed=3), drawn_)
    folds = split_folds(images.labels[drawn_], validation=Validation(3))
    assert [len(fold.val) for fold in folds] == [2, 2, 2]


def test_the_draw_does_not_depend_on_the_masks() -> None:
    budget = LabelBudget(per_class=6)
    one, other = (
        draw_subset(examples(40, seed=s), budget=budget, repeat=0, seed=0) for s in (0, 1)
    )
    assert np.array_equal(one, other)
