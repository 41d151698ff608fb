"""Folds and holdouts that never split a group, such as the images of one patient or one scene."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainable.errors import DataError

Ints = npt.NDArray[np.int64]

_NO_WAY = (
    "validation inside the label budget found no way to keep every class in training without "
    "separating a group, for groups span classes. Raise label_budget, or ask for other folds"
)


def deal_groups(labels: Ints, groups: Ints, *, folds: int) -> Ints:
    """(M,) int64 fold that holds out each image, 0 <= fold < folds.

    Classes are dealt one after another, the class with the fewest groups first. Its groups that are
    not yet dealt are taken by their images of the class, the largest first. Each goes to a fold
    that has no group of the class, or else to the fold with the fewest images of the class. If no
    group spans classes, each fold therefore holds out a group of each class. If groups span
    classes, some of them may move afterwards, until no fold holds out all images of a class.

    Args:
        labels: (M,) class ids in the order of the draw; every class has at least `folds` groups.
        groups: (M,) group ids; their values do not matter.
        folds: number of folds, 2 or more.

    Raises:
        DataError: groups span classes in a way that leaves a class without training images.
    """
    counts, group_of = _count(labels, groups)
    totals = counts.sum(axis=1)
    fold_of = np.full(counts.shape[1], -1, dtype=np.int64)
    held = np.zeros((len(counts), folds), dtype=np.int64)
    for label in _fewest_groups_first(counts):
        waiting = np.flatnonzero((counts[label] > 0) & (fold_of < 0))
        for group in waiting[np.argsort(-counts[label, waiting], kind="stable")]:
            loads = zip(held[label] > 0, held[label], held.sum(axis=0), range(folds), strict=True)
            fold = min(loads)[-1]
            fold_of[group] = fold
            held[:, fold] += counts[:, group]
    while (whole := np.argwhere(held == totals[:, None])).size:
        _move_one(fold_of, held, counts, label=int(whole[0, 0]), fold=int(whole[0, 1]))
    return fold_of[group_of]


def hold_groups(labels: Ints, groups: Ints, *, share: float) -> npt.NDArray[np.bool_]:
    """(M,) whether each image is held out: about `share` of each class, in whole groups.

    Classes are visited one after another, the class with the fewest groups first. Its groups are
    visited in the order of the draw, and held out if that brings the class nearer to its share.
    Every class keeps a group to train on.

    Args:
        labels: (M,) class ids in the order of the draw; every class has 2 groups or more.
        groups: (M,) group ids.
        share: fraction of each class to hold out, above 0 and below 1.

    Raises:
        DataError: groups span classes in a way that leaves a class out of one of the parts.
    """
    counts, group_of = _count(labels, groups)
    totals = counts.sum(axis=1)
    held = np.zeros(counts.shape[1], dtype=np.bool_)
    for label in _fewest_groups_first(counts):
        wanted = max(1, round(share * totals[label]))
        for group in np.flatnonzero((counts[label] > 0) & ~held):
            have = counts[label, held].sum()
            too_many = max(0, have + counts[label, group] - wanted)
            if have >= wanted or (have and too_many > wanted - have):
                continue
            after = counts[:, held].sum(axis=1) + counts[:, group]
            held[group] = (after < totals).all()
    taken = counts[:, held].sum(axis=1)
    if (taken == 0).any() or (taken == totals).any():
        raise DataError(_NO_WAY)
    return held[group_of]


def num_groups_of_classes(labels: Ints, groups: Ints) -> Ints:
    """(C,) number of groups of each class that occurs, in ascending order of class ids."""
    counts, _ = _count(labels, groups)
    return np.asarray((counts > 0).sum(axis=1), dtype=np.int64)


def _count(labels: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """Return (C, G) counts of images by class and group, and the (M,) group of each image.

    Groups are numbered by their first image in the draw.
    """
    _, class_of = np.unique(labels, return_inverse=True)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    position = np.empty(len(first), dtype=np.int64)
    position[np.argsort(first)] = np.arange(len(first))
    group_of = position[inverse]
    counts = np.zeros((class_of.max(initial=-1) + 1, len(first)), dtype=np.int64)
    np.add.at(counts, (class_of, group_of), 1)
    return counts, group_of


def _fewest_groups_first(counts: Ints) -> Ints:
    return np.argsort((counts > 0).sum(axis=1), kind="stable").astype(np.int64)


def _move_one(fold_of: Ints, held: Ints, counts: Ints, *, label: int, fold: int) -> None:
    """Move a group out of a fold that holds out all images of a class, or raise `DataError`.

    Args:
        fold_of: (G,) fold of each group; changed in place.
        held: (C, folds) number of held out images by class and fold; changed in place.
        counts: (C, G) number of images by class and group.
        label: the class.
        fold: the fold.
    """
    totals = counts.sum(axis=1)
    before = (held == totals[:, None]).sum()
    for group in np.flatnonzero((fold_of == fold) & (counts[label] > 0)):
        for other in range(held.shape[1]):
            moved = held.copy()
            moved[:, fold] -= counts[:, group]
            moved[:, other] += counts[:, group]
            if (moved == totals[:, None]).sum() < before:
                fold_of[group], held[:] = other, moved
                return
    raise DataError(_NO_WAY)
