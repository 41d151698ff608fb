"""Validation parts that keep groups whole: images of one patient, one scene, one film."""

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
    """(M,) the fold that each image is held out in, 0 <= fold < folds.

    Class by class, the one with the fewest groups first, the groups that are not yet dealt go,
    largest first, to a fold without one of this class, then to the one with the fewest images of
    it. Where every group lies within one class, each fold so holds out a group of each class.
    Groups that span classes may need moving afterwards, until no class is held out whole.

    Args:
        labels: (M,) class ids in the order of the draw; every class has at least `folds` groups.
        groups: (M,) group ids; what they are called does not matter.
        folds: 2 or more.

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

    Class by class, the one with the fewest groups first, groups are taken in the order of the
    draw for as long as that comes nearer to the share; each class keeps a group to train on.

    Args:
        labels: (M,) class ids in the order of the draw; every class has 2 groups or more.
        groups: (M,) group ids.
        share: of each class, above 0 and below 1.

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
    """(C,) how many groups each class has, in the ascending order of the class ids there are."""
    counts, _ = _count(labels, groups)
    return np.asarray((counts > 0).sum(axis=1), dtype=np.int64)


def _count(labels: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """(C, G) images by class and group, groups in the order of the draw; (M,) group of each."""
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
    """Moves a group of the class out of the fold that holds it whole, or raises `DataError`."""
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
