import dataclasses

import numpy as np
import pytest

from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import derive_seed, draw_subset, drawable, split_folds
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation


def made(labels: list[int], *, split: list[int] | None = None) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        (f"image {i}".encode() for i in range(len(labels))),
        labels=labels,
        split=[Split.POOL] * len(labels) if split is None else split,
        class_names=["cat", "dog", "cow"],
        paths=[str(i) for i in range(len(labels))],
    )


def test_five_label_subset_lies_inside_the_ten_label_one(digit_images: LabelledExamples) -> None:
    five, ten, everything = (
        set(draw_subset(digit_images, budget=budget, repeat=0, seed=0).tolist())
        for budget in (LabelBudget(5), LabelBudget(10), LabelBudget())
    )
    assert (len(five), len(ten), len(everything)) == (50, 100, 1000)
    assert five < ten < everything


def test_draws_of_repeats_and_seeds_overlap_no_more_than_chance(
    digit_images: LabelledExamples,
) -> None:
    draws = {
        (repeat, seed): set(
            draw_subset(digit_images, budget=LabelBudget(20), repeat=repeat, seed=seed).tolist()
        )
        for repeat, seed in [(0, 0), (1, 0), (0, 1), (1, 1)]
    }
    keys = list(draws)
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            # Two independent draws of 200 out of 1,000 share 40 on average, with a standard
            # deviation of 5.
            assert 15 < len(draws[a] & draws[b]) < 65, (a, b)


def test_every_image_is_about_equally_likely_to_be_drawn() -> None:
    images = made([0] * 10 + [1] * 5 + [2] * 5)
    drawn = [
        draw_subset(images, budget=LabelBudget(3), repeat=repeat, seed=0) for repeat in range(400)
    ]
    counts = np.bincount(np.concatenate(drawn), minlength=20) / 400
    assert counts[:10] == pytest.approx(0.3, abs=0.1)
    assert counts[10:] == pytest.approx(0.6, abs=0.1)


def test_total_smaller_than_the_number_of_classes_is_an_error() -> None:
    with pytest.raises(DataError, match="label_budget: got 2 in all; 3 classes need at least one"):
        draw_subset(made([0, 1, 2]), budget=LabelBudget(total=2), repeat=0, seed=0)


def test_class_without_a_pool_image_is_an_error_that_names_it() -> None:
    images = made([0, 1, 2, 0], split=[0, 2, 2, 0])
    with pytest.raises(DataError, match="outside the test split for: dog, cow"):
        draw_subset(images, budget=LabelBudget(1), repeat=0, seed=0)


@pytest.mark.parametrize(
    ("sizes", "total", "counts"),
    [
        ([60, 30, 10], 10, [6, 3, 1]),
        ([60, 30, 10], 3, [1, 1, 1]),
        ([90, 9, 1], 10, [8, 1, 1]),
        ([53, 24, 23], 7, [3, 2, 2]),  # Webster: 53/2.5 > 24/1.5 > 23/1.5 > 53/3.5
    ],
)
def test_a_total_is_divided_among_classes_by_websters_method(
    sizes: list[int], total: int, counts: list[int]
) -> None:
    images = made([label for label, size in enumerate(sizes) for _ in range(size)])
    drawn = draw_subset(images, budget=LabelBudget(total=total), repeat=0, seed=0)
    assert np.bincount(images.labels[drawn]).tolist() == counts


@pytest.mark.parametrize(
    ("share", "size", "held"),
    [
        (0.25, 20, 5),
        (0.25, 4, 1),
        (0.25, 2, 1),
        (0.01, 10, 1),
        (0.9, 2, 1),
        (0.99, 10, 9),
        (0.3, 9, 3),
    ],
)
def test_holdout_takes_the_rounded_share_at_least_one_and_leaves_one(
    share: float, size: int, held: int
) -> None:
    (fold,) = split_folds(np.zeros(size, dtype=np.int64), validation=Validation(None, share))
    assert (len(fold.val), len(fold.train)) == (held, size - held)


@pytest.mark.parametrize("validation", [Validation(3), Validation(None, 0.25)])
def test_a_class_with_a_single_label_cannot_be_validated(validation: Validation) -> None:
    with pytest.raises(DataError, match=r"2 or more labels of every class; the smallest class has"):
        split_folds(np.asarray([0, 0, 0, 1]), validation=validation)


def test_an_empty_subset_cannot_be_validated() -> None:
    with pytest.raises(DataError, match=r"has 0\. Raise label_budget"):
        split_folds(np.zeros(0, dtype=np.int64), validation=Validation(3))


def test_derived_seeds_differ_if_their_parts_differ() -> None:
    seeds = {derive_seed(*parts) for parts in [(1, 2), (2, 1), (12,), ("12", 3), (1, 2, 3), ()]}
    assert len(seeds) == 6
    assert derive_seed("batch", 1, "fold0") == derive_seed("batch", 1, "fold0")
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("validation", [Validation(3), Validation(None, 0.3)])
def test_class_whose_images_are_all_of_one_group_is_named(validation: Validation) -> None:
    labels, groups = np.asarray([0, 0, 0, 1, 1]), np.asarray([4, 4, 4, 5, 6])
    reason = r"all images drawn are of one group for: cat\. A group cannot both train and validate"
    with pytest.raises(DataError, match=reason):
        split_folds(labels, validation=validation, groups=groups, class_names=["cat", "dog"])


def test_folds_are_no_more_than_the_groups_of_the_class_with_the_fewest() -> None:
    labels = np.asarray([0] * 6 + [1] * 6)
    groups = np.asarray([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    parts = split_folds(labels, validation=Validation(3), groups=groups)
    assert len(parts) == 2
    assert [sorted(set(groups[part.val])) for part in parts] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_every_part_holds_out_every_class_however_groups_differ_in_size() -> None:
    # The fold with the large group of the first class has to take a group of the second class too.
    labels = np.asarray([0] * 7 + [1] * 3)
    groups = np.asarray([0, 0, 0, 0, 0, 1, 2, 3, 4, 5])
    parts = split_folds(labels, validation=Validation(3), groups=groups)
    assert [sorted(set(labels[part.val])) for part in parts] == [[0, 1]] * 3


def test_groups_that_leave_no_way_to_train_every_class_are_refused() -> None:
    # Each of three classes has two of three groups, so that one of two folds has all of some class.
    labels, groups = np.asarray([0, 0, 1, 1, 2, 2]), np.asarray([0, 1, 1, 2, 2, 0])
    with pytest.raises(DataError, match="groups span classes"):
        split_folds(labels, validation=Validation(2), groups=groups)


def test_budget_without_budgets_or_repeats_draws_all_or_none() -> None:
    images = made([0, 0, 1])
    assert drawable(images, budgets=[LabelBudget()], repeats=0, seed=0).tolist() == [0, 1, 2]
    assert drawable(images, budgets=[LabelBudget(1)], repeats=0, seed=0).tolist() == []


def test_copies_are_drawn_last_if_groups_keep_them_together() -> None:
    """Otherwise the copies of one text could be the only two labels, both in one group."""
    contents = [f"text {number // 3}" for number in range(30)]
    texts = LabelledExamples.from_bytes(
        (content.encode() for content in contents),
        labels=[number // 15 for number in range(30)],
        split=[Split.POOL] * 30,
        class_names=["a", "b"],
        paths=[str(number) for number in range(30)],
        groups=[number // 3 for number in range(30)],
    )
    for repeat in range(10):
        drawn = draw_subset(texts, budget=LabelBudget(5), repeat=repeat, seed=0)
        assert len({contents[row] for row in drawn}) == 10
        more = draw_subset(texts, budget=LabelBudget(8), repeat=repeat, seed=0)
        assert set(drawn) < set(more)
    everything = draw_subset(texts, budget=LabelBudget(), repeat=0, seed=0)
    assert sorted(everything.tolist()) == list(range(30))
    alone = draw_subset(
        dataclasses.replace(texts, groups=None), budget=LabelBudget(3), repeat=0, seed=0
    )
    assert len({contents[row] for row in alone}) == 2
