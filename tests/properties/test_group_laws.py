"""Laws of groups and of unread images: what belongs together stays together, and draws stay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainable.data.grouped_folds import num_groups_of_classes
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import Fold, draw_subset, drawable, split_folds
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation

laws = settings(derandomize=True, deadline=None, max_examples=100)
validations = st.one_of(
    st.builds(Validation, st.integers(2, 5)),
    st.builds(lambda share: Validation(None, share), st.floats(0.05, 0.8)),
)


@st.composite
def nested_groups(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Labels and groups in a drawn order, each group within one class, two or more a class."""
    rows: list[tuple[int, int]] = []
    for label in range(draw(st.integers(1, 4))):
        for size in draw(st.lists(st.integers(1, 5), min_size=2, max_size=5)):
            rows += [(label, 1 + len({group for _, group in rows}))] * size
    shuffled = draw(st.permutations(rows))
    return [label for label, _ in shuffled], [group for _, group in shuffled]


@st.composite
def any_groups(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Labels and groups, which may span classes; every class has two groups or more."""
    rows = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=2, max_size=30))
    labels, groups = ([row[i] for row in rows] for i in (0, 1))
    assume(num_groups_of_classes(np.asarray(labels), np.asarray(groups)).min() >= 2)
    return labels, groups


def parts(labels: list[int], groups: list[int], validation: Validation) -> list[Fold]:
    return split_folds(np.asarray(labels), validation=validation, groups=np.asarray(groups))


def check_unbroken(labels: list[int], groups: list[int], folds: list[Fold]) -> None:
    """Every fold is a split of the rows into whole groups, with every class in training."""
    for fold in folds:
        assert sorted([*fold.train.tolist(), *fold.val.tolist()]) == list(range(len(labels)))
        train, val = ({groups[i] for i in rows} for rows in (fold.train, fold.val))
        assert not train & val
        assert {labels[i] for i in fold.train} == set(labels)
        assert len(fold.val)


@laws
@given(rows=nested_groups(), folds=st.integers(2, 5))
def test_folds_keep_groups_whole_and_hold_out_each_class_in_each_fold(
    rows: tuple[list[int], list[int]], folds: int
) -> None:
    labels, groups = rows
    made = parts(labels, groups, Validation(folds))
    check_unbroken(labels, groups, made)
    fewest = num_groups_of_classes(np.asarray(labels), np.asarray(groups)).min()
    assert len(made) == min(folds, fewest)
    held_out = np.concatenate([fold.val for fold in made])
    assert sorted(held_out.tolist()) == list(range(len(labels)))
    for fold in made:
        assert {labels[i] for i in fold.val} == set(labels)


@laws
@given(rows=nested_groups(), share=st.floats(0.05, 0.95))
def test_holdout_keeps_groups_whole_and_every_class_on_both_sides(
    rows: tuple[list[int], list[int]], share: float
) -> None:
    labels, groups = rows
    (fold,) = made = parts(labels, groups, Validation(None, share))
    check_unbroken(labels, groups, made)
    assert {labels[i] for i in fold.val} == set(labels)


@laws
@given(rows=any_groups(), validation=validations)
def test_groups_that_span_classes_are_kept_whole_or_refused(
    rows: tuple[list[int], list[int]], validation: Validation
) -> None:
    labels, groups = rows
    try:
        made = parts(labels, groups, validation)
    except DataError as error:
        assert "groups span classes" in str(error)  # noqa: PT017 - most examples do not raise
        return
    check_unbroken(labels, groups, made)
    if validation.folds is not None:
        held_out = np.concatenate([fold.val for fold in made])
        assert sorted(held_out.tolist()) == list(range(len(labels)))


@laws
@given(rows=any_groups(), validation=validations, data=st.data())
def test_folds_do_not_depend_on_the_ids_of_groups(
    rows: tuple[list[int], list[int]], validation: Validation, data: st.DataObject
) -> None:
    labels, groups = rows
    renamed = data.draw(st.permutations(range(100, 107)))
    try:
        one = parts(labels, groups, validation)
    except DataError:
        with pytest.raises(DataError, match="groups span classes"):
            parts(labels, [renamed[g] for g in groups], validation)
        return
    other = parts(labels, [renamed[g] for g in groups], validation)
    assert [fold.val.tolist() for fold in one] == [fold.val.tolist() for fold in other]


@laws
@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4), share=st.floats(0.05, 0.95))
def test_holdout_of_groups_of_one_is_the_holdout_without_groups(
    sizes: list[int], share: float
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    alone = np.arange(len(labels))
    (one,) = split_folds(labels, validation=Validation(None, share))
    (other,) = split_folds(labels, validation=Validation(None, share), groups=alone)
    assert one.val.tolist() == other.val.tolist()


def images_of(sizes: list[int], *, test: int = 0) -> LabelledExamples:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = np.full(len(labels) + test, Split.POOL)
    split[len(labels) :] = Split.TEST
    return LabelledExamples.from_bytes(
        (f"image {i}".encode() for i in range(len(split))),
        labels=np.concatenate([labels, np.zeros(test, dtype=np.int64)]),
        split=split,
        class_names=[f"class {i}" for i in range(len(sizes))],
        paths=[f"{i}.png" for i in range(len(split))],
    )


budgets_of_a_sweep = st.lists(
    st.one_of(
        st.builds(LabelBudget, st.integers(1, 8)),
        st.builds(lambda total: LabelBudget(total=total), st.integers(4, 30)),
        st.just(LabelBudget()),
    ),
    min_size=1,
    max_size=3,
)


@laws
@given(
    sizes=st.lists(st.integers(1, 10), min_size=1, max_size=4),
    budgets=budgets_of_a_sweep,
    repeats=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_drawable_images_are_those_of_all_draws_and_unread_others_change_none(
    sizes: list[int], budgets: list[LabelBudget], repeats: int, seed: int
) -> None:
    images = images_of(sizes, test=2)
    draws = {
        (budget, repeat): draw_subset(images, budget=budget, repeat=repeat, seed=seed).tolist()
        for budget in budgets
        for repeat in range(repeats)
    }
    touched = drawable(images, budgets=budgets, repeats=repeats, seed=seed)
    assert touched.tolist() == sorted({row for rows in draws.values() for row in rows})

    unread = np.setdiff1d(np.arange(len(images)), touched)
    shard_of = images.shard_of.copy()
    shard_of[unread] = -1
    sparse = replace(images, shard_of=shard_of)
    for (budget, repeat), rows in draws.items():
        again = draw_subset(sparse, budget=budget, repeat=repeat, seed=seed)
        assert again.tolist() == rows
        assert all(sparse.encoded(int(row)) == images.encoded(int(row)) for row in again)
