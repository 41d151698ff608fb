"""From a listing to images: every file is hashed once, and what trials can touch is kept.

Which images a draw holds depends on the content of all. So everything is read once to be hashed;
what is known by then to be touched (the test split, or all where a budget is `all`) stays in
memory, and the rest of what draws touch is read again. What is touched is decoded once, to be
sure that it can be: a broken image leaves, which never changes the order of the others, and the
draws are made again until every image in them is sound.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np

from orchestrator.datasets.header_check import kind_of
from orchestrator.datasets.listing import Ints, Listing, Note
from orchestrator.datasets.progress_bar import reading_bar
from orchestrator.processors import usable_processors
from trainable.data.labelled_images import LabelledImages, Split
from trainable.data.shards import ShardWriter
from trainable.data.subsets import drawable
from trainable.errors import DataError
from trainable.modalities.image.decoding import ValueRange, check_image, may_be_deep, value_extent
from trainable.spec.trial_spec import LabelBudget


class _Unchecked(NamedTuple):
    """Row and content of an image, its kind, and what is asked of it."""

    row: int
    content: bytes
    kind: bytes | None
    check: bool
    measure: bool


class _Checked(NamedTuple):
    """Row and reason of each broken image, kinds of the others, and the extremes of 16-bit grey."""

    failed: list[tuple[int, str]]
    sound_kinds: set[bytes]
    extents: list[ValueRange]


_HASH_BYTES = 32
_MOST_NAMED = 5
_CHUNK = 64
"""Images checked in one task of a thread."""
_MOST_KINDS = 1024
"""Where every image is a kind of its own, there is no use in remembering more."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a sweep asks of its images.

    Attributes:
        budgets: label budgets.
        repeats: draws 0 .. repeats - 1 of each.
        seed: of the sweep.
    """

    budgets: tuple[LabelBudget, ...]
    repeats: int
    seed: int

    @property
    def everything(self) -> bool:
        """Whether some draw holds the whole pool."""
        return any(budget.per_class is None and budget.total is None for budget in self.budgets)


class Reading:
    """The images of a listing while they are read.

    Args:
        listing: what there is.

    Attributes:
        broken: row -> why its image cannot be used.
        extents: smallest and largest value of each picture of 16-bit grey that was measured.
    """

    def __init__(self, listing: Listing) -> None:
        num_images = len(listing.paths)
        self.broken: dict[int, str] = {}
        self.extents: list[ValueRange] = []
        self._listing = listing
        self._hashes = bytearray(_HASH_BYTES * num_images)
        self._digests = np.frombuffer(self._hashes, dtype=np.uint8).reshape(-1, _HASH_BYTES)
        self._places = np.full((3, num_images), -1, dtype=np.int64)
        self._checked = np.zeros(num_images, dtype=np.bool_)
        self._writer = ShardWriter()

    def hash_all(
        self,
        keep: Callable[[int, bytes], bool],
        measure: Callable[[int], bool] = lambda _row: False,
    ) -> None:
        """Read everything once; keep and check the images that `keep` wants.

        Args:
            keep: row and content hash -> whether the image is touched.
            measure: row -> whether the image counts for `extents`; asked after `keep`.
        """
        rows = np.arange(len(self._listing.paths))
        for row, content, digest, check in self._stream(rows, "reading"):
            self._hashes[_HASH_BYTES * row : _HASH_BYTES * (row + 1)] = digest
            kept = keep(row, digest)
            check(row, content, keep=kept, measure=measure(row))

    def touch(self, rows: Ints) -> None:
        """Read, check and keep those of the ascending rows that were not yet."""
        new = rows[~self._checked[rows]]
        for row, content, digest, check in self._stream(new, "reading drawn"):
            if digest == self._digests[row].tobytes():
                check(row, content, keep=True, measure=False)
            else:
                self._break(row, "changed while it was being read")

    def sound(self) -> Ints:
        """(M,) ascending rows of the images that are not known to be broken."""
        sound = np.ones(len(self._checked), dtype=np.bool_)
        sound[list(self.broken)] = False
        return np.flatnonzero(sound).astype(np.int64)

    def images(self, split: Ints) -> LabelledImages:
        """The M sound images, without any bytes.

        Args:
            split: (N,) of `Split`.
        """
        rows, listing = self.sound(), self._listing
        shard_of, starts, stops = self._places[:, rows]
        return LabelledImages(
            shards=(),
            shard_of=shard_of,
            starts=starts,
            stops=stops,
            digests=self._digests[rows],
            labels=listing.labels[rows],
            split=split[rows],
            class_names=listing.class_names,
            paths=tuple(listing.paths[i] for i in rows),
            groups=None if listing.groups is None else listing.groups[rows],
        )

    def finish(self, split: Ints, *, value_range: ValueRange | None = None) -> LabelledImages:
        """The sound images, with the bytes of those that were kept; nothing can be read after.

        Args:
            split: (N,) of `Split`.
            value_range: what becomes black and white in 16-bit grey.
        """
        return replace(self.images(split), shards=self._writer.finish(), value_range=value_range)

    def has_more_broken(self, fraction: float) -> bool:
        """Whether more than this share was broken, of what was checked or of what was read."""
        unsound = int(self._checked[list(self.broken)].sum())
        unreadable = len(self.broken) - unsound
        return unsound > fraction * self._checked.sum() or unreadable > fraction * len(
            self._checked
        )

    def complaint(self, fraction: float) -> str:
        """The problem of too many broken images."""
        named = "; ".join(self._details()[:_MOST_NAMED])
        left = len(self.broken) - _MOST_NAMED
        more = f"; and {left:,} more" if left > 0 else ""
        return (
            f"got {fraction:g}; {self._counted()}. Mend or remove them, or allow more: "
            f"{named}{more}"
        )

    def notes(self) -> list[Note]:
        """What is to be said of broken images, path by path."""
        return [Note(f"{self._counted()}; left out", self._details())] if self.broken else []

    def _counted(self) -> str:
        return (
            f"{len(self.broken):,} of {len(self._checked):,} images cannot be used "
            f"({self._checked.sum():,} were checked)"
        )

    def _details(self) -> tuple[str, ...]:
        paths = self._listing.paths
        return tuple(
            " ".join(f"{paths[row]}: {reason}".split())
            for row, reason in sorted(self.broken.items())
        )

    def _stream(self, rows: Ints, what: str) -> Iterator[tuple[int, bytes, bytes, _Look]]:
        """Row, bytes and hash of every image that can be read, and what keeps and checks it."""
        with (
            _Checker(self._break, self.extents.append) as checker,
            reading_bar(what, len(rows)) as step,
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
    """Read and check whatever a draw, the test or the validation split holds.

    Args:
        reading: everything is hashed.
        split: (N,) of `Split`.
        demand: what is drawn; budgets that these images cannot serve are left to the plan.
        stop: whether there are too many broken images to go on.
    """
    num_broken = -1
    while len(reading.broken) != num_broken and not stop():
        num_broken = len(reading.broken)
        reading.touch(_touched(reading, split, demand))


def _touched(reading: Reading, split: Ints, demand: Demand) -> Ints:
    """Ascending rows of all that is drawn or apart from the pool, of what is sound so far."""
    rows, images = reading.sound(), reading.images(split)
    pool = images.labels[images.indices(Split.POOL)]
    budgets = [b for b in demand.budgets if b.total is None or b.total >= images.num_classes]
    touched = [images.indices(Split.VAL), images.indices(Split.TEST)]
    if budgets and len(np.unique(pool)) == images.num_classes:  # else the plan tells what lacks
        touched.append(drawable(images, budgets=budgets, repeats=demand.repeats, seed=demand.seed))
    return np.sort(rows[np.concatenate(touched)])


class _Look(Protocol):
    """Keeps and checks an image, and measures its values, where either is asked for."""

    def __call__(self, row: int, content: bytes, *, keep: bool, measure: bool) -> None: ...


class _Checker:
    """Decodes images in threads (Pillow lets go of the interpreter meanwhile) to see if it works.

    Args:
        report: takes row and reason of each image that cannot be decoded, in this thread.
        measured: takes the extremes of each image of 16-bit grey that is measured, in this thread.
    """

    def __init__(
        self, report: Callable[[int, str], None], measured: Callable[[ValueRange], None]
    ) -> None:
        self._report = report
        self._measured = measured
        self._workers = usable_processors()
        self._pool = ThreadPoolExecutor(self._workers)
        self._chunk: list[_Unchecked] = []
        self._running: deque[Future[_Checked]] = deque()
        self._sound_kinds: set[bytes] = set()

    def __enter__(self) -> _Checker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._submit()
                while self._running:
                    self._collect()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def add(self, row: int, content: bytes, *, check: bool, measure: bool) -> None:
        """Check one more image, or measure it, sooner or later."""
        kind = kind_of(content) if check else None
        check = check and kind not in self._sound_kinds
        measure = measure and may_be_deep(content)
        if not check and not measure:
            return
        self._chunk.append(_Unchecked(row, content, kind, check, measure))
        if len(self._chunk) == _CHUNK:
            self._submit()
            while len(self._running) > 2 * self._workers:  # no more in memory than are soon done
                self._collect()

    def _submit(self) -> None:
        self._running.append(self._pool.submit(_check, self._chunk))
        self._chunk = []

    def _collect(self) -> None:
        found = self._running.popleft().result()
        if len(self._sound_kinds) < _MOST_KINDS:
            self._sound_kinds |= found.sound_kinds
        for row, reason in found.failed:
            self._report(row, reason)
        for extent in found.extents:
            self._measured(extent)


def _check(chunk: Sequence[_Unchecked]) -> _Checked:
    found = _Checked([], set(), [])
    for image in chunk:
        try:
            if image.check:
                check_image(image.content)
                if image.kind is not None:
                    found.sound_kinds.add(image.kind)
            if image.measure and (extent := value_extent(image.content)) is not None:
                found.extents.append(extent)
        except DataError as error:
            if image.check:
                found.failed.append((image.row, str(error)))
    return found
