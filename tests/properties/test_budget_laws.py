from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, split_folds
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation


@dataclass(frozen=True)
class Row:
    name: str
    label: int
    split: Split = Split.POOL


def images_of(rows: list[Row], *, num_classes: int) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        (row.name.encode() for row in rows),
        labels=np.asarray([row.label for row in rows], dtype=np.int64),
        split=np.asarray([row.split for row in rows], dtype=np.int64),
        class_names=[f"class {i}" for i in range(num_classes)],
        paths=[row.name for row in rows],
    )


def rows_of(sizes: list[int], split: Split = Split.POOL) -> list[Row]:
    return [
        Row(f"{split.name} {label} {i}", label, split)
        for label, size in enumerate(sizes)
        for i in range(size)
    ]


def drawn(
    rows: list[Row], sizes: list[int], budget: LabelBudget, *, repeat: int = 0, seed: int = 0
) -> list[str]:
    """Names of the drawn images, in the order of the draw."""
    images = images_of(rows, num_classes=len(sizes))
    subset = draw_subset(images, budget=budget, repeat=repeat, seed=seed)
    return [images.paths[i] for i in subset]


sizes_of_classes = st.lists(st.integers(1, 12), min_size=1, max_size=6)
laws = settings(deadline=None, max_examples=60)


@laws
@given(
    sizes=sizes_of_classes,
    small=st.integers(1, 15),
    more=st.integers(0, 10),
    repeat=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_smaller_budgets_nest_in_larger_ones(
    sizes: list[int], small: int, more: int, repeat: int, seed: int
) -> None:
    rows, classes = rows_of(sizes), len(sizes)
    for chain in (
        [LabelBudget(small), LabelBudget(small + more), LabelBudget()],
        [
            LabelBudget(total=classes - 1 + small),
            LabelBudget(total=classes - 1 + small + more),
            LabelBudget(),
        ],
    ):
        subsets = [set(drawn(rows, sizes, b, repeat=repeat, seed=seed)) for b in chain]
        assert subsets[0] <= subsets[1] <= subsets[2]
        assert len(subsets[2]) == sum(sizes)


@laws
@given(sizes=sizes_of_classes, per_class=st.integers(1, 15))
def test_each_class_gives_the_budget_or_all_it_has(sizes: list[int], per_class: int) -> None:
    images = images_of(rows_of(sizes), num_classes=len(sizes))
    subset = draw_subset(images, budget=LabelBudget(per_class), repeat=0, seed=0)
    assert len(set(subset.tolist())) == len(subset)
    counts = np.bincount(images.labels[subset], minlength=len(sizes))
    assert counts.tolist() == [min(per_class, size) for size in sizes]


@laws
@given(
    sizes=sizes_of_classes,
    total=st.integers(0, 40),
    tests=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    data=st.data(),
)
def test_order_of_rows_and_test_images_move_nothing(
    sizes: list[int], total: int, tests: list[int], data: st.DataObject
) -> None:
    rows = rows_of(sizes)
    others = rows_of(tests[: len(sizes)], Split.TEST)
    relabelled = [
        Row(row.name, data.draw(st.integers(0, len(sizes) - 1)), Split.TEST) for row in others
    ]
    shuffled = data.draw(st.permutations(rows + relabelled))
    for budget in (LabelBudget(1 + total // 4), LabelBudget(total=len(sizes) + total)):
        expected = drawn(rows, sizes, budget)
        assert drawn(rows + others, sizes, budget) == expected
        assert drawn(shuffled, sizes, budget) == expected


@laws
@given(sizes=st.lists(st.integers(2, 10), min_size=1, max_size=4), data=st.data())
def test_image_that_joins_or_leaves_never_reorders_the_others(
    sizes: list[int], data: st.DataObject
) -> None:
    rows = rows_of(sizes)
    before = drawn(rows, sizes, LabelBudget())
    gone = data.draw(st.sampled_from([row for row in rows if not row.name.endswith(" 0")]))
    left = drawn([row for row in rows if row != gone], sizes, LabelBudget())
    assert left == [name for name in before if name != gone.name]
    new = Row("newcomer", data.draw(st.integers(0, len(sizes) - 1)))
    joined = drawn([new, *rows], sizes, LabelBudget())
    assert [name for name in joined if name != new.name] == before


@laws
@given(sizes=sizes_of_classes, data=st.data())
def test_totals_grow_one_label_at_a_time_near_the_natural_proportions(
    sizes: list[int], data: st.DataObject
) -> None:
    images, classes, everything = (
        images_of(rows_of(sizes), num_classes=len(sizes)),
        len(sizes),
        sum(sizes),
    )
    before = np.zeros(classes, dtype=np.int64)
    for total in range(classes, everything + 3):
        subset = draw_subset(images, budget=LabelBudget(total=total), repeat=0, seed=0)
        counts = np.bincount(images.labels[subset], minlength=classes)
        assert len(subset) == min(total, everything)
        assert (counts >= np.maximum(before, 1)).all()
        assert (counts <= sizes).all()
        before = counts
        # A divisor method: no class would use a label better than the one that got its last.
        for winner, loser in np.ndindex(classes, classes):
            if counts[winner] > 1 and counts[loser] < sizes[loser]:
                last = (counts[winner] - 0.5) / sizes[winner]
                following = (counts[loser] + 0.5) / sizes[loser]
                assert last <= following


@laws
@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=6), folds=st.integers(2, 6))
def test_folds_are_disjoint_exhaustive_stratified_and_of_like_size(
    sizes: list[int], folds: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = split_folds(labels, validation=Validation(folds))
    assert len(parts) == min(folds, min(sizes))
    held_out = np.concatenate([part.val for part in parts])
    assert sorted(held_out.tolist()) == list(range(len(labels)))
    for part in parts:
        assert sorted([*part.train.tolist(), *part.val.tolist()]) == list(range(len(labels)))
        for positions in (part.train, part.val):
            assert (np.diff(positions) > 0).all()
            assert set(labels[positions].tolist()) == set(range(len(sizes)))
    lengths = [len(part.val) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    per_class = np.asarray([np.bincount(labels[part.val], minlength=len(sizes)) for part in parts])
    assert (per_class.max(axis=0) - per_class.min(axis=0) <= 1).all()


@laws
@given(
    sizes=st.lists(st.integers(2, 30), min_size=1, max_size=6),
    share=st.floats(0.01, 0.99),
)
def test_holdout_takes_its_share_of_each_class(sizes: list[int], share: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    (part,) = split_folds(labels, validation=Validation(None, share))
    assert sorted([*part.train.tolist(), *part.val.tolist()]) == list(range(len(labels)))
    held = np.bincount(labels[part.val], minlength=len(sizes))
    expected = [min(max(1, round(share * size)), size - 1) for size in sizes]
    assert held.tolist() == expected


@laws
@given(sizes=st.lists(st.integers(2, 8), min_size=2, max_size=4), data=st.data())
def test_folds_do_not_depend_on_the_names_of_the_classes(
    sizes: list[int], data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    one = split_folds(labels, validation=Validation(2))
    other = split_folds(labels * 7 + 3, validation=Validation(2))
    for a, b in zip(one, other, strict=True):
        assert a.val.tolist() == b.val.tolist()
