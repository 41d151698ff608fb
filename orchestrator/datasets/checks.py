"""What is asked of the data before anything starts: classes, groups, copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.datasets.holders import holders
from orchestrator.datasets.image_reader import Reading
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.name_keys import alike, escaped
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import LabelledExamples, Split

_MOST_NAMED = 5
_UNLABELLED = "-1"

MAX_LEAKED_FRACTION = 0.01
"""Share of the test examples that may be copies of examples outside the test split."""

FEW_TEST_MASKS = 5
"""Number of test masks from which on the score of a class that they hold says something."""

_DATASET = ("dataset",)


def check_classes(listing: Listing, problems: Problems) -> None:
    """Add problems of classes that no choice of splits can solve."""
    names = listing.class_names
    if len(names) < 2:
        problems.add(_DATASET, f"the only class is {some(names)}; allowed: 2 classes or more")
        return
    for members in alike(names):
        problems.add(
            _DATASET,
            f"class names that look alike: {escaped(members)}; allowed: names that differ in more "
            "than case, blanks and the Unicode form of their characters. If they are one class, "
            "call it by one name",
        )
    counts = np.bincount(listing.labels, minlength=len(names))
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    if single:
        problems.add(
            _DATASET,
            f"classes with one {listing.modality}: {some(single)}; a class needs 2 or more to "
            "train and validate, and others for the test split",
        )


def note_groups(listing: Listing) -> list[Note]:
    """Return a note of group names that look alike: one group may have been split in two."""
    found = [escaped(members) for members in alike(listing.group_names)]
    return [Note(f"groups whose names look alike: {len(found):,}", tuple(found))] if found else []


def note_unlabelled(listing: Listing) -> list[Note]:
    """Return a note of a class -1 beside classes 0, 1, ...: it often marks a missing label."""
    names = listing.class_names
    if _UNLABELLED not in names or "0" not in names or not all(map(_is_number, names)):
        return []
    count = int((listing.labels == names.index(_UNLABELLED)).sum())
    return [
        Note(
            f"{_UNLABELLED} is a class, of {count:,} {listing.modality}s; where it stands for "
            f"{listing.modality}s without a label, leave them out"
        )
    ]


def _is_number(name: str) -> bool:
    return name == _UNLABELLED or name.isdecimal()


def check_split(images: LabelledExamples, problems: Problems) -> list[Note]:
    """Problems and notes about classes that a split lacks, or that have a single test example."""
    noun = images.modality
    in_pool, in_test = (
        np.bincount(images.labels[images.indices(split)], minlength=len(images.strata))
        for split in (Split.POOL, Split.TEST)
    )
    names = np.asarray(images.strata, dtype=object)
    without_pool = names[in_pool == 0].tolist()
    if without_pool:
        problems.add(
            _DATASET,
            f"no labelled {noun} outside the test split for: {some(without_pool)}. Add {noun}s, or "
            "choose another dataset.test or seed",
        )
    if not in_test.any():
        problems.add(
            _DATASET, f"no {noun} is in the test split. Add {noun}s, or raise dataset.test"
        )
        return []
    if images.masks is not None:
        return []  # see `check_masks`
    notes = [
        (f"classes without a test {noun}", in_test == 0),
        (f"classes with one test {noun}: a mean over classes has a wide interval", in_test == 1),
    ]
    return [Note(text, tuple(names[its].tolist())) for text, its in notes if its.any()]


def check_masks(images: LabelledExamples, problems: Problems) -> list[Note]:
    """Problems and notes about classes that masks of the pool lack, or few masks of the test split.

    Args:
        images: the sound images with their masks, split.
        problems: takes what is wrong.
    """
    held = holders(images)
    in_pool, in_test = (held[images.split == one].sum(axis=0) for one in (Split.POOL, Split.TEST))
    names = np.asarray(images.class_names, dtype=object)
    untrained = names[in_pool == 0].tolist()
    if untrained:
        problems.add(
            _DATASET,
            f"classes in no mask outside the test split: {some(untrained)}. Add masks of them, or "
            "choose another dataset.test or seed",
        )
    few = [
        f"{name}: {count}"
        for name, count in zip(names, in_test.tolist(), strict=True)
        if count < FEW_TEST_MASKS
    ]
    if not few:
        return []
    return [
        Note(
            f"classes in fewer than {FEW_TEST_MASKS} test masks, whose scores say little",
            tuple(few),
        )
    ]


def check_groups(images: LabelledExamples, names: Sequence[str], problems: Problems) -> None:
    """Add a problem if the data's own test split separates a group."""
    if images.groups is None:
        return
    test = images.split == Split.TEST
    both = np.intersect1d(images.groups[test], images.groups[~test])
    if len(both):
        problems.add(
            _DATASET,
            "groups that lie on both sides of the data's own test split: "
            f"{some([names[i] for i in both])}. Mend the split, or give dataset.test to draw one",
        )


def check_copies(images: LabelledExamples, reading: Reading, problems: Problems) -> list[Note]:
    """Copies: a problem where many test examples have one outside, and notes of the rest.

    Args:
        images: the sound examples, split; bytes are not needed.
        reading: which of them are copies of one another.
        problems: takes what is wrong.
    """
    rows, copy_of = reading.sound(), reading.copies()
    order = np.argsort(copy_of, kind="stable")
    starts = np.flatnonzero(np.diff(copy_of[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    several = sizes > 1
    if not several.any():
        return []
    noun, copies = images.modality, reading.kind.copies
    leaked, relabelled = [], []
    test = images.split == Split.TEST
    num_leaked = 0
    for start, size in zip(starts[several], sizes[several], strict=True):
        members = order[start : start + size]
        text = " = ".join(repr(images.paths[i]) for i in members[:_MOST_NAMED])
        text += f" and {size - _MOST_NAMED:,} more" if size > _MOST_NAMED else ""
        if len(set(images.labels[members].tolist())) > 1:
            names = [images.class_names[images.labels[i]] for i in members]
            preview = reading.preview(int(rows[members[0]]))
            quoted = f"{preview!r}: " if preview else ""
            relabelled.append(f"{quoted}{text}: {some(list(dict.fromkeys(names)))}")
        if test[members].any() and not test[members].all():
            leaked.append(text)
            num_leaked += int(test[members].sum())
    num_copies = int((sizes[several] - 1).sum())
    notes = [Note(f"{copies} of other {noun}s: {num_copies:,}")]
    if relabelled:
        count = len(relabelled)
        notes.append(Note(f"{noun}s with {copies} in another class: {count:,}", tuple(relabelled)))
    if num_leaked > MAX_LEAKED_FRACTION * test.sum():
        problems.add(
            _DATASET,
            f"{num_leaked:,} of {test.sum():,} test {noun}s are {copies} of {noun}s outside the "
            f"test split; allowed: {MAX_LEAKED_FRACTION:.0%}. Such as "
            f"{'; '.join(leaked[:_MOST_NAMED])}",
        )
    elif leaked:
        notes.append(
            Note(
                f"test {noun}s with {copies} outside the test split: {num_leaked:,}",
                tuple(leaked),
            )
        )
    return notes
