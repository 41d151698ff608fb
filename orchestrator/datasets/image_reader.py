"""Read the examples of a listing: hash each one once and keep the bytes that trials need.

A draw of labels depends on the content of all examples, so each is read once and hashed. Examples
that are known to be needed by then (the test split, or all where a budget is `all`) stay in memory;
the rest of the drawn ones are read a second time. Every needed example is checked once (an image is
decoded), to be sure that it can be used. A broken one is left out, which never changes the order of
the others, and the draws are repeated until they contain no broken example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.example_kinds import EXAMPLE_KINDS
from orchestrator.datasets.listing import Ints, Listing, Note
from orchestrator.datasets.progress_bar import reading_bar
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.shards import ShardWriter
from trainable.data.subsets import drawable
from trainable.errors import DataError
from trainable.modalities.image.decoding import ValueRange
from trainable.spec.trial_spec import LabelBudget

_HASH_BYTES = 32
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Draws of labels that a sweep makes from its examples.

    Attributes:
        budgets: label budgets of the sweep.
        repeats: draws 0 .. repeats - 1 of each budget.
        seed: seed of the sweep.
    """

    budgets: tuple[LabelBudget, ...]
    repeats: int
    seed: int

    @property
    def everything(self) -> bool:
        """Whether some draw contains the whole pool."""
        return any(budget.per_class is None and budget.total is None for budget in self.budgets)


class Reading:
    """State of reading a listing: hashes, bytes that were kept, and broken images.

    Args:
        listing: the examples and how their bytes are read.

    Attributes:
        kind: of the examples.
        broken: row -> why its example cannot be used.
        extents: smallest and largest value of each 16-bit grey image that was measured.
    """

    def __init__(self, listing: Listing) -> None:
        num_images = len(listing.paths)
        self.kind = EXAMPLE_KINDS[listing.modality]
        self.broken: dict[int, str] = {}
        self.extents: list[ValueRange] = []
        self._listing = listing
        self._hashes = bytearray(_HASH_BYTES * num_images)
        self._digests = _as_rows(self._hashes)
        self._copy_hashes = self._hashes
        if self.kind.copy_digest is not None:
            self._copy_hashes = bytearray(_HASH_BYTES * num_images)
        self._places = np.full((3, num_images), -1, dtype=np.int64)
        self._checked = np.zeros(num_images, dtype=np.bool_)
        self._writer = ShardWriter()

    def hash_all(
        self,
        keep: Callable[[int, bytes], bool],
        measure: Callable[[int], bool] = lambda _row: False,
    ) -> None:
        """Read and hash every example once; keep and check those that `keep` selects.

        Args:
            keep: row and hash, equal for copies -> whether the example is needed.
            measure: row -> whether the image counts for `extents`; called after `keep`.
        """
        rows = np.arange(len(self._listing.paths))
        for row, content, digest, check in self._stream(rows, "reading"):
            place = slice(_HASH_BYTES * row, _HASH_BYTES * (row + 1))
            self._hashes[place] = digest
            if self.kind.copy_digest is not None:
                self._copy_hashes[place] = self.kind.copy_digest(content)
            kept = keep(row, bytes(self._copy_hashes[place]))
            check(row, content, keep=kept, measure=measure(row))

    def touch(self, rows: Ints) -> None:
        """Read, check and keep those of the ascending rows that were not checked yet."""
        new = rows[~self._checked[rows]]
        for row, content, digest, check in self._stream(new, "reading drawn"):
            if digest == self._digests[row].tobytes():
                check(row, content, keep=True, measure=False)
            else:
                self._break(row, "changed while it was being read")

    def sound(self) -> Ints:
        """Return (M,) ascending rows of the images that are not known to be broken."""
        sound = np.ones(len(self._checked), dtype=np.bool_)
        sound[list(self.broken)] = False
        return np.flatnonzero(sound).astype(np.int64)

    def images(self, split: Ints) -> LabelledExamples:
        """Return the M sound images without their bytes.

        Args:
            split: (N,) values of `Split`.
        """
        rows, listing = self.sound(), self._listing
        shard_of, starts, stops = self._places[:, rows]
        return LabelledExamples(
            shards=(),
            shard_of=shard_of,
            starts=starts,
            stops=stops,
            digests=self._digests[rows],
            labels=listing.labels[rows],
            split=split[rows],
            class_names=listing.class_names,
            paths=tuple(listing.paths[i] for i in rows),
            groups=self._groups(rows),
            modality=listing.modality,
            masks=None if listing.masks is None else listing.masks.at(rows),
        )

    def copies(self) -> Ints:
        """Return (M,) ids of the sound examples, equal for copies of one another."""
        return _as_ids(_as_rows(self._copy_hashes)[self.sound()])

    def preview(self, row: int) -> str:
        """Return what messages show of the content of an example; empty for nothing."""
        if self.kind.preview is None:
            return ""
        content = next(iter(self._listing.read(np.asarray([row]))))
        return "" if isinstance(content, DataError) else self.kind.preview(content)

    def _groups(self, rows: Ints) -> Ints | None:
        """Return the ids of what no split may separate, or None where all stand alone."""
        if self._listing.groups is not None:
            return self._listing.groups[rows]
        return None if self.kind.copy_digest is None else self.copies()

    def finish(self, split: Ints, *, value_range: ValueRange | None = None) -> LabelledExamples:
        """Return the sound images with the bytes that were kept, and end the reading.

        Args:
            split: (N,) values of `Split`.
            value_range: values that become black and white in 16-bit grey.
        """
        return replace(self.images(split), shards=self._writer.finish(), value_range=value_range)

    def has_more_broken(self, fraction: float) -> bool:
        """Return whether more than this share of the checked or of the read images is broken."""
        unsound = int(self._checked[list(self.broken)].sum())
        unreadable = len(self.broken) - unsound
        return unsound > fraction * self._checked.sum() or unreadable > fraction * len(
            self._checked
        )

    def complaint(self, fraction: float) -> str:
        """Return the message about too many broken images."""
        named = "; ".join(self._details()[:_MOST_NAMED])
        left = len(self.broken) - _MOST_NAMED
        more = f"; and {left:,} more" if left > 0 else ""
        return (
            f"got {fraction:g}; {self._counted()}. Mend or remove them, or allow more: "
            f"{named}{more}"
        )

    def notes(self) -> list[Note]:
        """Return notes that name every broken image; none if all are sound."""
        return [Note(f"{self._counted()}; left out", self._details())] if self.broken else []

    def _counted(self) -> str:
        noun = self._listing.modality
        return (
            f"{len(self.broken):,} of {len(self._checked):,} {noun}s cannot be used "
            f"({self._checked.sum():,} were checked)"
        )

    def _details(self) -> tuple[str, ...]:
        paths = self._listing.paths
        return tuple(
            " ".join(f"{paths[row]}: {reason}".split())
            for row, reason in sorted(self.broken.items())
        )

    def _stream(self, rows: Ints, what: str) -> Iterator[tuple[int, bytes, bytes, _Look]]:
        """Yield row, bytes, hash and the function that keeps and checks, per readable image."""
        with (
            self.kind.checker(self._break, self.extents.append) as checker,
            reading_bar(f"{what} {self._listing.modality}s", len(rows)) as step,
        ):

            def look(row: int, content: bytes, *, keep: bool, measure: bool) -> None:
                if keep:
                    self._checked[row] = True
                    self._places[:, row] = self._writer.add(content)
                checker.add(row, content, check=keep, measure=measure)

            for row, content in zip(rows.tolist(), self._listing.read(rows), strict=True):
                step()
                if isinstance(content, DataError):
                    self._break(row, str(content))
                elif not content:
                    self._break(row, "the file is empty")
                else:
                    yield row, content, hashlib.sha256(content).digest(), look

    def _break(self, row: int, reason: str) -> None:
        self.broken[row] = reason


def touch_all_drawn(
    reading: Reading, split: Ints, demand: Demand, *, stop: Callable[[], bool]
) -> None:
    """Read and check every image in a draw, the test split or the validation split.

    Args:
        reading: reading whose images are all hashed.
        split: (N,) values of `Split`.
        demand: draws of the sweep; budgets that are too large for these images are skipped, since
            the plan reports them.
        stop: returns whether there are too many broken images to go on.
    """
    num_broken = -1
    while len(reading.broken) != num_broken and not stop():
        num_broken = len(reading.broken)
        reading.touch(_touched(reading, split, demand))


def _touched(reading: Reading, split: Ints, demand: Demand) -> Ints:
    """Return ascending rows of drawn, test and validation images among the sound ones."""
    rows, images = reading.sound(), reading.images(split)
    pool = images.labels[images.indices(Split.POOL)]
    num_strata = len(images.strata)
    budgets = [b for b in demand.budgets if b.total is None or b.total >= num_strata]
    touched = [images.indices(Split.VAL), images.indices(Split.TEST)]
    if budgets and len(np.unique(pool)) == num_strata:  # else the plan reports it
        touched.append(drawable(images, budgets=budgets, repeats=demand.repeats, seed=demand.seed))
    return np.sort(rows[np.concatenate(touched)])


def _as_rows(hashes: bytearray) -> npt.NDArray[np.uint8]:
    """(N, 32) view of N hashes that follow each other."""
    return np.frombuffer(hashes, dtype=np.uint8).reshape(-1, _HASH_BYTES)


def _as_ids(digests: npt.NDArray[np.uint8]) -> Ints:
    """(M,) ids, equal for equal digests: 64 of the 256 bits tell them apart."""
    keys = digests[:, :8].copy().view(np.uint64)[:, 0]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


class _Look(Protocol):
    """Keeps and checks an example, or measures its values, as requested."""

    def __call__(self, row: int, content: bytes, *, keep: bool, measure: bool) -> None: ...
