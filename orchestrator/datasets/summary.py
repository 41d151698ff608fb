"""A summary of a data set, to inspect before a sweep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.dataset import Dataset
from orchestrator.datasets.listing import Note
from orchestrator.datasets.near_duplicates import near_duplicates, thumbnails
from orchestrator.statistics.test_set import TestSet
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.modalities.image.decoding import encoded_size

MOST_COMPARED = 20_000
"""Largest number of images that are searched for near duplicates; the first ones are."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Number of images of one class.

    Attributes:
        name: name of the class.
        pool: images that label budgets are drawn from.
        val: images of the data's own validation split, if that is kept apart.
        test: images of the test split.
        groups: groups among all of these; None if the data have no groups.
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
        classes: counts per class, in the order of their ids.
        num_images: images that are not known to be broken.
        num_read: images that some trial or finalist can use; sizes and near duplicates are theirs.
        widths: smallest, median and largest, in pixels.
        heights: smallest, median and largest, in pixels.
        near_duplicates: pairs of paths of images that look the same.
        notes: findings while reading.
        test: size and resolution of the test set; None if it is empty.
    """

    classes: tuple[ClassCounts, ...]
    num_images: int
    num_read: int
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    near_duplicates: tuple[tuple[str, str], ...]
    notes: tuple[Note, ...]
    test: TestSet | None

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values."""
        data = asdict(self)
        if self.test is not None:
            data["test"]["smallest_difference"] = self.test.smallest_difference
        return data


def summarize_dataset(dataset: Dataset) -> DatasetSummary:
    """Summarize a data set.

    Args:
        dataset: the data set as a sweep reads it.

    Raises:
        DataError: an image cannot be decoded.
    """
    images = dataset.images
    read = np.flatnonzero(images.shard_of >= 0)
    sizes = np.asarray([encoded_size(images.encoded(int(i))) for i in read]).reshape(-1, 2)
    compared = read[:MOST_COMPARED]
    pairs = near_duplicates(thumbnails(images, compared))
    return DatasetSummary(
        classes=tuple(_counts(images, label) for label in range(images.num_classes)),
        num_images=len(images),
        num_read=len(read),
        widths=_spread(sizes[:, 0]),
        heights=_spread(sizes[:, 1]),
        near_duplicates=tuple(
            (images.paths[compared[a]], images.paths[compared[b]])
            for a, b in pairs
            if not np.array_equal(images.digests[compared[a]], images.digests[compared[b]])
        ),
        notes=dataset.notes,
        test=_test_set(images),
    )


def _counts(images: LabelledExamples, label: int) -> ClassCounts:
    members = images.labels == label
    pool, val, test = (
        int((members & (images.split == one)).sum()) for one in (Split.POOL, Split.VAL, Split.TEST)
    )
    groups = None if images.groups is None else len(np.unique(images.groups[members]))
    return ClassCounts(name=images.class_names[label], pool=pool, val=val, test=test, groups=groups)


def _spread(values: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    if not len(values):
        return (0, 0, 0)
    return int(values.min()), int(np.median(values)), int(values.max())


def _test_set(images: LabelledExamples) -> TestSet | None:
    labels = images.labels[images.split == Split.TEST]
    if not len(labels):
        return None
    return TestSet.of(np.bincount(labels).tolist(), num_classes=images.num_classes)
