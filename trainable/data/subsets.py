"""Labelled subsets: nested and stratified, and their splits into training and validation parts.

The rank of an image in its class is a hash of (seed, repeat, content of the image) alone. A draw
therefore does not depend on the order of the rows, on the test split or on other classes, and an
image that is added to or removed from a class does not change the order of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.data.grouped_folds import deal_groups, hold_groups, num_groups_of_classes
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """One split into training and validation images, as positions; see `validation_parts`.

    Attributes:
        train: (T,) int64 ascending positions of training images.
        val: (V,) int64 ascending positions of validation images; disjoint from `train`.
    """

    train: Indices
    val: Indices


def draw_subset(
    images: LabelledExamples, *, budget: LabelBudget, repeat: int, seed: int
) -> Indices:
    """Indices of a drawn labelled subset, nested in every larger one of the same repeat.

    Images with masks are all of one class here: a budget counts them in all.

    A budget per class takes the first k images of a random permutation of each class, or all images
    of a smaller class. A total budget takes one image of each class, and then images in the order
    of Webster's divisor method, which keeps the proportions of the classes. That method is house
    monotone (Balinski and Young, Fair Representation, 1982), so that its subsets nest.

    Args:
        images: all images; only those of the pool are drawn.
        budget: the label budget.
        repeat: number of the draw; draws are independent of each other.
        seed: seed of the sweep; global random state is untouched.

    Returns:
        (M,) int64 indices into `images`, class by class, each class in the order of its draw. This
        order does not depend on the order of the rows.

    Raises:
        DataError: a class has no image in the pool, or a total budget is smaller than the number of
            classes.
    """
    per_class = _permuted_classes(images, repeat=repeat, seed=seed)
    counts = _counts([len(members) for members in per_class], budget)
    return np.concatenate(
        [members[:count] for members, count in zip(per_class, counts, strict=True)]
    )


def drawable(
    images: LabelledExamples, *, budgets: Sequence[LabelBudget], repeats: int, seed: int
) -> Indices:
    """(M,) ascending int64 indices of all images that `draw_subset` can return in a sweep.

    Args:
        images: all images; their bytes are not used.
        budgets: the label budgets of the sweep.
        repeats: number of draws.
        seed: seed of the sweep.

    Raises:
        DataError: see `draw_subset`.
    """
    if any(budget.per_class is None and budget.total is None for budget in budgets):
        return images.indices(Split.POOL)
    drawn: list[Indices] = [np.empty(0, dtype=np.int64)]
    for repeat in range(repeats):
        per_class = _permuted_classes(images, repeat=repeat, seed=seed)
        sizes = [len(members) for members in per_class]
        most = np.max([_counts(sizes, budget) for budget in budgets], axis=0)
        drawn += [members[:count] for members, count in zip(per_class, most, strict=True)]
    return np.unique(np.concatenate(drawn))


def split_folds(
    labels: npt.NDArray[np.int64],
    *,
    validation: Validation,
    groups: npt.NDArray[np.int64] | None = None,
    class_names: Sequence[str] = (),
) -> list[Fold]:
    """Stratified splits of a drawn subset: disjoint, exhaustive folds, or one holdout.

    Folds deal the images of each class round robin, and continue from class to class, so that sizes
    of folds differ by at most one image. Their number is min(folds, images of the smallest class).
    A holdout takes max(1, round(share x k)) of the k images of each class and leaves at least one.

    Groups are dealt and held out whole. The number of folds is then min(folds, groups of the class
    with the fewest groups), and sizes are as near to those above as whole groups allow.

    Args:
        labels: (M,) int64 class ids of the subset, in the order of `draw_subset`.
        validation: number of folds, or share of the holdout.
        groups: (M,) int64 group ids; None if there are no groups.
        class_names: names of the class ids, for messages; may be empty.

    Returns:
        The folds, or the holdout as the only fold. The training part of each has every class. So
        does the validation part, unless groups span classes.

    Raises:
        DataError: a class has a single label or a single group, which cannot be in both parts; or
            groups span classes in a way that leaves a class out of the training part.
    """
    present, sizes = np.unique(labels, return_counts=True)
    smallest = int(sizes.min(initial=len(labels)))
    if smallest < 2:
        raise DataError(
            "validation inside the label budget needs 2 or more labels of every class; the "
            f"smallest class has {smallest}. Raise label_budget"
        )
    if groups is not None:
        num_groups = num_groups_of_classes(labels, groups)
        alone = [int(label) for label in present[num_groups < 2]]
        if alone:
            named = ", ".join(class_names[i] if class_names else f"class {i}" for i in alone[:5])
            raise DataError(
                "validation inside the label budget needs 2 or more groups of every class; all "
                f"images drawn are of one group for: {named}{', ...' if len(alone) > 5 else ''}. "
                "A group cannot both train and validate. Raise label_budget, or make groups smaller"
            )
        smallest = int(num_groups.min())
    part = np.full(len(labels), -1, dtype=np.int64)
    if validation.folds is not None:
        folds = min(validation.folds, smallest)
        if groups is not None:
            part = deal_groups(labels, groups, folds=folds)
        else:
            part[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % folds
    else:
        assert validation.holdout is not None
        folds = 1
        if groups is not None:
            part[hold_groups(labels, groups, share=validation.holdout)] = 0
        else:
            part[_held_out(labels, share=validation.holdout)] = 0
    return [
        Fold(train=np.flatnonzero(part != fold), val=np.flatnonzero(part == fold))
        for fold in range(folds)
    ]


def validation_parts(
    images: LabelledExamples, subset: Indices, *, validation: Validation
) -> tuple[Indices, list[Fold]]:
    """The images that a trial is trained and validated on, and its folds.

    Args:
        images: all images.
        subset: (M,) int64 indices of the drawn subset.
        validation: where validation images come from: the subset, or the data's validation split.

    Returns:
        (N,) int64 indices, the subset first; and folds, as positions within these indices.

    Raises:
        DataError: the budget is too small for validation, or the data has no validation split.
    """
    if not validation.outside:
        return subset, split_folds(
            images.labels[subset],
            validation=validation,
            groups=images.groups_at(subset),
            class_names=images.class_names,
        )
    apart = images.indices(Split.VAL)
    if not len(apart):
        raise DataError(
            "validation outside the budget needs a validation split of the data's own, and there "
            "is none. Give validation: {folds: 3}, which lies inside the budget"
        )
    rows = np.concatenate([subset, apart])
    positions = np.arange(len(rows))
    return rows, [Fold(train=positions[: len(subset)], val=positions[len(subset) :])]


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed, a pure function of `parts`; different parts give unrelated seeds."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _permuted_classes(images: LabelledExamples, *, repeat: int, seed: int) -> list[Indices]:
    """For each class, indices of its images in the pool, ordered by a keyed hash of their content.

    An exact copy has the rank of its original. If there are groups, which keep copies together,
    copies come after all other images of their class, because a class whose labels are all in one
    group cannot be both trained on and validated.
    """
    keyed = hashlib.blake2b(key=f"draw/{seed}/{repeat}".encode(), digest_size=8)
    pool = images.indices(Split.POOL)
    ranks = []
    for digest in images.digests[pool]:
        one = keyed.copy()
        one.update(digest)
        ranks.append(one.digest())
    numbers = np.frombuffer(b"".join(ranks), dtype=">u8")
    ascending = np.argsort(numbers, kind="stable")
    order = pool[ascending]
    if images.groups is not None:
        copies = _copy_numbers(numbers[ascending], images.labels[order])
        order = order[np.argsort(copies, kind="stable")]
    labels = images.labels[order]
    ends = np.cumsum(np.bincount(labels, minlength=len(images.strata)))[:-1]
    members = np.split(order[np.argsort(labels, kind="stable")], ends)
    empty = [name for name, rows in zip(images.strata, members, strict=True) if not len(rows)]
    if empty:
        raise DataError(f"no labelled image outside the test split for: {', '.join(empty)}")
    return members


def _copy_numbers(ascending: npt.NDArray[np.uint64], labels: Indices) -> Indices:
    """(M,) int64 number of earlier rows with the same rank and class as each row.

    Args:
        ascending: (M,) ranks, ascending.
        labels: (M,) class ids.
    """
    rows = np.lexsort((labels, ascending))
    same = (ascending[rows][1:] == ascending[rows][:-1]) & (labels[rows][1:] == labels[rows][:-1])
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    sizes = np.diff(starts, append=len(rows))
    numbers = np.empty(len(rows), dtype=np.int64)
    numbers[rows] = np.arange(len(rows)) - np.repeat(starts, sizes)
    return numbers


def _counts(sizes: list[int], budget: LabelBudget) -> list[int]:
    """Number of images that a budget draws from each class."""
    if budget.per_class is not None:
        return [min(budget.per_class, size) for size in sizes]
    if budget.total is None:
        return sizes
    if budget.total < len(sizes):
        raise DataError(
            f"label_budget: got {budget.total} in all; {len(sizes)} classes need at least "
            "one label each"
        )
    return _webster_counts(sizes, budget.total)


def _held_out(labels: Indices, *, share: float) -> Indices:
    """(V,) positions of a holdout: the first images of each class in the order of the draw."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held = max(1, round(share * len(members)))
        chosen.append(members[: min(held, len(members) - 1)])
    return np.concatenate(chosen)


def _webster_counts(sizes: list[int], total: int) -> list[int]:
    """Number of images per class among the first `total`, by Webster's divisor method."""
    rank = np.concatenate([np.arange(size) for size in sizes])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    share = (rank + 0.5) / np.asarray(sizes)[owner]
    chosen = np.lexsort((owner, share, rank > 0))[:total]
    return [int(count) for count in np.bincount(owner[chosen], minlength=len(sizes))]
