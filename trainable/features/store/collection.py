"""A collection: the rows of one computation, read from disk, or computed and stored."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from trainable.atomic_files import atomic_write
from trainable.features.store.row_files import ID_BYTES, SUFFIX, Ids, RowFile, Rows, write_rows

_LARGEST_SHARE = 0.25
"""Largest fraction of the store that the rows of one call of `add` may take."""
_FILE_BYTES = 64 * 2**20
"""Bytes of computed rows at which they are written to a file; the last file may be smaller."""
_POLL_S = 0.005


class StoreQuota(Protocol):
    """The part of `FeatureStore` that a collection uses."""

    folder: Path
    max_bytes: int
    warning: str | None

    def make_room(self) -> None:
        """Remove the least recently used files until the store is within its limit."""


class Collection:
    """Rows of one computation, found by the hash of their example.

    `FeatureStore.collection` makes it.

    Args:
        store: the store that the collection is part of.
        folder: folder of the collection; it may not exist yet.
        about: JSON text of the collection's key.
        shape: shape of a row.
        dtype: data type of a row.
    """

    def __init__(
        self,
        store: StoreQuota,
        folder: Path,
        about: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._store = store
        self._folder = folder
        self._about = about
        self._shape = shape
        self._dtype = dtype
        self._row_bytes = math.prod(shape) * dtype.itemsize
        self._files: dict[str, RowFile | None] = {}
        self._places: dict[bytes, tuple[str, int]] = {}

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self._row_bytes

    def holds(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """(N,) whether the collection has each row.

        Args:
            ids: (N, 32) hashes of examples.
        """
        self._look()
        return np.asarray([one.tobytes() in self._places for one in ids], dtype=np.bool_)

    def read(self, ids: Ids) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return the stored rows of some examples.

        A file that has a row with a wrong checksum is removed, and the row counts as missing.

        Args:
            ids: (N, 32) hashes of examples.

        Returns:
            (N, *shape) rows, undefined where a row is missing; and (N,) whether each was found.
        """
        self._look()
        rows = np.empty((len(ids), *self._shape), dtype=self._dtype)
        there = np.zeros(len(ids), dtype=np.bool_)
        for i, one in enumerate(ids):
            place = self._places.get(one.tobytes())
            if place is None:
                continue
            file = self._files[place[0]]
            assert file is not None
            if file.check(place[1]):
                rows[i] = file.rows[place[1]]
                there[i] = True
            else:
                self._drop(place[0])
        return rows, there

    def fetch(
        self,
        ids: Ids,
        compute: Callable[[npt.NDArray[np.int64]], Iterator[Rows]],
        *,
        patience_s: Callable[[int], float],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> tuple[Rows, int]:
        """Return the rows of all examples; missing rows are computed and stored.

        While another process computes rows of this collection, this process waits for them, at most
        for as long as it would take to compute the missing rows itself.

        Args:
            ids: (N, 32) hashes of the examples; an example may occur several times.
            compute: takes (M,) positions within `ids`; yields their rows in that order, in parts.
            patience_s: takes a number of rows; returns the seconds that they take to compute.
            heartbeat: called regularly while waiting, as a sign of life.

        Returns:
            (N, *shape) rows, and the number of rows that were computed.
        """
        rows, there = self.read(ids)
        if there.all():
            return rows, 0
        with self._turn(patience_s(int((~there).sum())), heartbeat):
            found, now = self.read(ids[~there])
            rows[np.flatnonzero(~there)[now]] = found[now]
            there[np.flatnonzero(~there)[now]] = True
            missing = np.flatnonzero(~there).astype(np.int64)
            _, first = np.unique(ids[missing], axis=0, return_index=True)
            wanted = missing[np.sort(first)]
            self._compute(ids, wanted, rows, compute)
        place = {ids[i].tobytes(): i for i in wanted}
        for i in missing:
            rows[i] = rows[place[ids[i].tobytes()]]
        return rows, len(wanted)

    def _compute(
        self,
        ids: Ids,
        wanted: npt.NDArray[np.int64],
        rows: Rows,
        compute: Callable[[npt.NDArray[np.int64]], Iterator[Rows]],
    ) -> None:
        """Compute the wanted rows into `rows`, and store them one file at a time."""
        start = stop = 0
        for part in compute(wanted):
            rows[wanted[stop : stop + len(part)]] = part
            stop += len(part)
            if (stop - start) * self._row_bytes >= _FILE_BYTES:
                self.add(ids[wanted[start:stop]], rows[wanted[start:stop]])
                start = stop
        if stop > start:
            self.add(ids[wanted[start:stop]], rows[wanted[start:stop]])

    def add(self, ids: Ids, rows: Rows) -> None:
        """Store rows. If that fails, set the store's `warning`, after which nothing more is stored.

        Args:
            ids: (N, 32) hashes of the examples.
            rows: (N, *shape) their rows.
        """
        size = len(ids) * (self._row_bytes + ID_BYTES + 4)
        if self._store.warning is not None or size > self._store.max_bytes * _LARGEST_SHARE:
            return
        path = self._folder / f"{uuid4().hex}{SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            about = self._folder / "about.json"
            if not about.exists():
                with atomic_write(about, "w", durable=False) as sink:
                    sink.write(self._about)
            with atomic_write(path, durable=False) as sink:
                write_rows(sink, ids, np.ascontiguousarray(rows, dtype=self._dtype))
            self._store.make_room()
        except OSError as error:
            self._store.warning = (
                f"{self._store.folder}: features are computed again and not kept: "
                f"{error.strerror or error}"
            )

    def _look(self) -> None:
        """Map files that were added since the last look, and forget files that were evicted."""
        try:
            names = {
                entry.name for entry in os.scandir(self._folder) if entry.name.endswith(SUFFIX)
            }
        except OSError:
            names = set()
        for name in self._files.keys() - names:
            self._forget(name)
        for name in names - self._files.keys():
            file = self._files[name] = RowFile.open(
                self._folder / name, shape=self._shape, dtype=self._dtype
            )
            if file is None:  # damaged, so that its rows will be computed again
                self._drop(name)
                continue
            for row, one in enumerate(file.ids):
                self._places[one.tobytes()] = name, row

    def _forget(self, name: str) -> None:
        self._files.pop(name, None)
        self._places = {one: place for one, place in self._places.items() if place[0] != name}

    def _drop(self, name: str) -> None:
        self._forget(name)
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    @contextlib.contextmanager
    def _turn(
        self, patience_s: float, heartbeat: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold the collection's lock during the block, or nothing if waiting took `patience_s`.

        The kernel releases the lock when a process dies.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            deadline = time.monotonic() + patience_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= deadline:
                        break
                    heartbeat()
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(handle)
