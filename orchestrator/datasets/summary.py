"""A summary of a data set, to inspect before a sweep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.datasets.dataset import Dataset
from orchestrator.datasets.example_kinds import EXAMPLE_KINDS
from orchestrator.datasets.holders import holders
from orchestrator.datasets.listing import Note
from orchestrator.datasets.looks import Looks
from orchestrator.datasets.test_set import TestSet
from trainable.data.labelled_examples import LabelledExamples, Split


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Number of images of one class, or of images whose mask holds it.

    Attributes:
        name: of the class.
        pool: examples that label budgets are drawn from.
        val: examples of the data's own validation split, where that is kept apart.
        test: examples of the test split.
        groups: groups among all of these; None where every example stands alone.
    """

    name: str
    pool: int
    val: int
    test: int
    groups: int | None


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """Summary of a data set.

    Attributes:
        modality: `image` or `text`.
        classes: in the order of their ids.
        num_images: all that are sound as far as is known.
        num_read: those that some trial or finalist can touch; what is measured is theirs.
        looks: what is measured.
        notes: what came up while reading.
        test: what the test set can tell; None where it is empty.
    """

    modality: str
    classes: tuple[ClassCounts, ...]
    num_images: int
    num_read: int
    looks: Looks
    notes: tuple[Note, ...]
    test: TestSet | None

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        data = asdict(self)
        del data["looks"]
        data |= self.looks.to_json()
        if self.test is not None:
            data["test"]["smallest_difference"] = self.test.smallest_difference
        return data


def summarize_dataset(dataset: Dataset) -> DatasetSummary:
    """Summarize a data set.

    Args:
        dataset: the data set as a sweep reads it.

    Raises:
        DataError: an example cannot be decoded.
    """
    images = dataset.images
    read = np.flatnonzero(images.is_read()).astype(np.int64)
    return DatasetSummary(
        modality=images.modality,
        classes=_counts(images),
        num_images=len(images),
        num_read=len(read),
        looks=EXAMPLE_KINDS[images.modality].look(images, read),
        notes=dataset.notes,
        test=_test_set(images),
    )


def _counts(images: LabelledExamples) -> tuple[ClassCounts, ...]:
    held = holders(images)
    found = []
    for label, name in enumerate(images.class_names):
        members = held[:, label]
        pool, val, test = (
            int((members & (images.split == one)).sum())
            for one in (Split.POOL, Split.VAL, Split.TEST)
        )
        groups = None if images.groups is None else len(np.unique(images.groups[members]))
        found.append(ClassCounts(name=name, pool=pool, val=val, test=test, groups=groups))
    return tuple(found)


def _test_set(images: LabelledExamples) -> TestSet | None:
    labels = images.labels[images.split == Split.TEST]
    if not len(labels):
        return None
    if images.masks is not None:
        return TestSet(len(labels))
    return TestSet.of(np.bincount(labels).tolist(), num_classes=images.num_classes)
