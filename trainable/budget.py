"""Which labels a trial may see: nested stratified subsets, and validation paid from inside them.

Each image has one rank in its class, a hash of (seed, repeat, content of the image) alone: the
order of the rows, the test labels and the images of other classes move nothing, and an image that
joins or leaves a class never changes the order of the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainable.errors import DataError
from trainable.images import LabelledImages, Split
from trainable.spec import LabelBudget, Validation

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """One validation split inside the budget, as positions within the drawn subset.

    Attributes:
        train: (T,) int64 ascending positions to train on.
        val: (V,) int64 ascending positions to score; disjoint from `train`.
    """

    train: Indices
    val: Indices


def draw_subset(images: LabelledImages, *, budget: LabelBudget, repeat: int, seed: int) -> Indices:
    """Indices of the labelled subset, nested in every larger one of the same repeat.

    A budget per class takes the first k of a random permutation of each class; a class with fewer
    gives all it has. A total takes images in the order of Webster's divisor method, which keeps
    natural proportions and, being house monotone (Balinski and Young, Fair Representation, 1982),
    nests; every class comes before any second image.

    Args:
        images: all images; only those of the pool are drawn.
        budget: how many.
        repeat: which draw; draws are independent of each other.
        seed: of the sweep; global random state is untouched.

    Returns:
        (M,) int64 indices into `images`, class by class, each class in the order of its draw: an
        order that does not depend on the order of the rows.

    Raises:
        DataError: a class has no image in the pool, or a total is smaller than the classes.
    """
    per_class = _permuted_classes(images, repeat=repeat, seed=seed)
    if budget.total is not None:
        if budget.total < len(per_class):
            raise DataError(
                f"label_budget: got {budget.total} in all; {len(per_class)} classes need at least "
                "one label each"
            )
        counts = _webster_counts([len(members) for members in per_class], budget.total)
    elif budget.per_class is not None:
        counts = [min(budget.per_class, len(members)) for members in per_class]
    else:
        counts = [len(members) for members in per_class]
    return np.concatenate(
        [members[:count] for members, count in zip(per_class, counts, strict=True)]
    )


def split_folds(labels: npt.NDArray[np.int64], *, validation: Validation) -> list[Fold]:
    """Stratified splits of a drawn subset: disjoint, exhaustive folds, or one holdout.

    With folds, each class is dealt round robin, going on where the class before it ended, so that
    no two folds differ by more than one image. There are min(folds, labels of the smallest class)
    of them. A holdout takes max(1, round(share x k)) images of each class and leaves at least one.

    Args:
        labels: (M,) int64 class ids of the subset in the order of `draw_subset`.
        validation: how to split.

    Returns:
        The folds; every class is in the training and in the validation part of each.

    Raises:
        DataError: a class has a single label, which cannot both train and validate.
    """
    positions = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    smallest = min((len(members) for members in positions), default=0)
    if smallest < 2:
        raise DataError(
            "validation inside the label budget needs 2 or more labels of every class; the "
            f"smallest class has {smallest}. Raise label_budget"
        )
    part = np.full(len(labels), -1, dtype=np.int64)
    if validation.folds is not None:
        folds = min(validation.folds, smallest)
        part[np.concatenate(positions)] = np.arange(len(labels)) % folds
    else:
        assert validation.holdout is not None
        folds = 1
        for members in positions:
            held = max(1, round(validation.holdout * len(members)))
            part[members[: min(held, len(members) - 1)]] = 0
    return [
        Fold(train=np.flatnonzero(part != fold), val=np.flatnonzero(part == fold))
        for fold in range(folds)
    ]


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of `parts`; different parts give unrelated seeds."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _permuted_classes(images: LabelledImages, *, repeat: int, seed: int) -> list[Indices]:
    """For each class its pool images, ordered by a keyed hash of their content."""
    key = f"draw/{seed}/{repeat}".encode()
    pool = images.indices(Split.POOL)
    ranks = np.asarray(
        [
            hashlib.blake2b(images.digests[i].tobytes(), key=key, digest_size=8).digest()
            for i in pool
        ],
        dtype="S8",
    )
    order = pool[np.argsort(ranks, kind="stable")]
    members = [order[images.labels[order] == label] for label in range(images.num_classes)]
    empty = [name for name, rows in zip(images.class_names, members, strict=True) if not len(rows)]
    if empty:
        raise DataError(f"no labelled image outside the test split for: {', '.join(empty)}")
    return members


def _webster_counts(sizes: list[int], total: int) -> list[int]:
    """How many of each class are among the first `total` by the divisor method."""
    rank = np.concatenate([np.arange(size) for size in sizes])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    share = (rank + 0.5) / np.asarray(sizes)[owner]
    chosen = np.lexsort((owner, share, rank > 0))[:total]
    return [int(count) for count in np.bincount(owner[chosen], minlength=len(sizes))]
