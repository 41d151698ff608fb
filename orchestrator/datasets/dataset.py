"""The examples of a sweep: listed by their source, read, split and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from orchestrator.datasets.checks import (
    check_classes,
    check_copies,
    check_groups,
    check_masks,
    check_split,
    note_groups,
    note_unlabelled,
)
from orchestrator.datasets.image_reader import Demand, Reading, touch_all_drawn
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.sections import DatasetSource, Listed
from orchestrator.datasets.split_assigner import SplitAssigner
from orchestrator.space import ALL_BITS, DatasetSection
from orchestrator.space.problems import Problems
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.modalities.image.decoding import ValueRange, narrowed

_FEW_LEVELS = 4
"""A note is given if the pool's value range is at least this many times that of a usual image,
which then keeps a quarter of 256 grey levels."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples that a sweep can use.

    Attributes:
        images: every example that is sound as far as is known; those that no trial can touch are
            unread.
        notes: what to know of them.
    """

    images: LabelledExamples
    notes: tuple[Note, ...] = ()


def read_dataset(
    section: DatasetSection, *, demand: Demand, where: str, keep_val: bool = False
) -> Dataset:
    """Read the images of a search-space file's `dataset:`, with their test split.

    Args:
        section: the section.
        demand: draws of the sweep; only images that they can contain are kept in memory.
        where: name of the search-space file, for messages.
        keep_val: whether the data's own validation split stays apart as `Split.VAL`; by default
            its images join the pool.

    Raises:
        SpaceError: the data are not usable; the message has every problem.
    """
    assert isinstance(section, DatasetSource)
    return section.dataset(demand=demand, where=where, keep_val=keep_val)


def read_listed(section: Listed, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
    """Read the images that a section lists; see `read_dataset`."""
    problems = Problems(where)
    given: Mapping[str, object] = {"dataset": section.to_json()}
    listing = section.list_images(problems)
    if listing is not None:
        check_classes(listing, problems)
    problems.raise_if_any(given)
    assert listing is not None
    return _read(section, listing, demand, problems, given, keep_val=keep_val)


def _read(
    section: Listed,
    listing: Listing,
    demand: Demand,
    problems: Problems,
    given: Mapping[str, object],
    *,
    keep_val: bool,
) -> Dataset:
    reading = Reading(listing)
    drawing = SplitAssigner(listing, share=section.test, seed=demand.seed, keep_val=keep_val)

    def is_touched(row: int, digest: bytes) -> bool:
        return drawing.place(row, digest) or demand.everything

    def too_many_broken() -> bool:
        return reading.has_more_broken(section.max_bad_fraction)

    def is_in_pool(row: int) -> bool:
        return bool(drawing.split[row] == Split.POOL)

    reading.hash_all(is_touched, is_in_pool)
    value_range, told = _value_range(section.value_bits, reading.extents)
    notes = [
        *listing.notes,
        *note_groups(listing),
        *note_unlabelled(listing),
        *drawing.notes,
    ]
    if not too_many_broken():  # or else what a split lacks follows from that
        notes += _check(reading, drawing, listing, problems)
    if not len(problems):
        touch_all_drawn(reading, drawing.split, demand, stop=too_many_broken)
    if too_many_broken():
        problems.add(("dataset", "max_bad_fraction"), reading.complaint(section.max_bad_fraction))
    problems.raise_if_any(given)
    return Dataset(
        images=reading.finish(drawing.split, value_range=value_range),
        notes=(*notes, *told, *reading.notes()),
    )


def _value_range(
    bits: int | None, extents: Sequence[ValueRange]
) -> tuple[ValueRange | None, list[Note]]:
    """Return the 16-bit values that become black and white, and notes about them.

    Args:
        bits: bits in use according to the file, or None.
        extents: smallest and largest value of each 16-bit image in the pool.
    """
    if not extents:
        unused = "dataset.bits changes nothing: the pool holds no pictures of 16-bit grey"
        return None, [] if bits is None else [Note(unused)]
    extent = min(low for low, _ in extents), max(high for _, high in extents)
    found = narrowed(extent) if bits is None else (0, 2**bits - 1)
    outliers = _note_outliers(extents, found or extent) if bits is None else []
    if found is None or bits == ALL_BITS:
        return None, outliers
    held = f"16-bit pictures hold {extent[0]:,} to {extent[1]:,} in the pool"
    key = "; say dataset.bits for another range" if bits is None else ""
    told = Note(f"{held}: {found[0]:,} becomes black, {found[1]:,} white{key}")
    return found, [told, *outliers]


def _note_outliers(extents: Sequence[ValueRange], whole: ValueRange) -> list[Note]:
    """Return a note if a few images have values so large that the rest lose most grey levels."""
    usual = median_low(high for _, high in extents)
    bits = max(usual, 1).bit_length()
    if whole[1] - whole[0] < _FEW_LEVELS * 2**bits:
        return []
    return [
        Note(
            f"half of the 16-bit pictures hold no value above {usual:,}, though the largest in the "
            f"pool is {whole[1]:,}, so that few grey levels are left of them; where what lies "
            f"above is noise or marks, say dataset.bits: {bits}"
        )
    ]


def _check(
    reading: Reading, drawing: SplitAssigner, listing: Listing, problems: Problems
) -> list[Note]:
    """What is wrong with the examples as they are split, before any of the pool is kept."""
    images = reading.images(drawing.split)
    notes = check_split(images, problems)
    if images.masks is not None and not len(problems):
        notes += check_masks(images, problems)
    if drawing.is_own and listing.groups is not None:
        check_groups(images, listing.group_names, problems)
    return notes + check_copies(images, reading, problems)
