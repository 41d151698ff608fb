"""Rows of equal size on disk, found by the content they were computed from.

One folder serves all processes of a machine and all sweeps after this one. A collection holds the
rows of one computation, such as what one frozen prefix makes of images; a row is found by the hash
of its image. Rows are written once, many to a file: a file appears under its name only when it is
whole, never changes, and is mapped by whoever reads it. So a process that dies leaves nothing
half-written, and a file that is evicted stays valid for whom it is mapped.

    <folder>/features-1/<hash of the collection's key>/about.json    the key, for people
                                                       lock          held by whoever computes
                                                       <name>.rows   header, ids, checksums, rows
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from trainable.errors import CacheError

Ids = npt.NDArray[np.uint8]
"""(N, 32) content hashes."""
Rows = npt.NDArray[Any]

FOLDER_VARIABLE = "SFT_SWEEP_CACHE"
"""Environment variable that names the folder."""
SIZE_VARIABLE = "SFT_SWEEP_CACHE_GIB"
"""Environment variable that bounds its size."""

DEFAULT_BYTES = 20 * 2**30
_SHARE_OF_DISK = 0.25
_LEAST_FREE = 2**26
_LARGEST_SHARE = 0.25
"""Of the whole store, that one collection's new rows may take."""
_FILE_BYTES = 64 * 2**20
"""Rows are written when there are this many bytes of them, or no more to come."""
_TOUCH_EVERY_S = 60.0
_STALE_S = 3600.0
"""A temporary file of this age was left by a process that died."""
_POLL_S = 0.005
_ID_BYTES = 32
_ALIGNMENT = 64
_MAGIC = b"sftrows1"
_VERSION = "features-1"


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What lies in a store.

    Attributes:
        folder: where it is.
        collections: number of them.
        files: number of files of rows.
        bytes: of these.
        max_bytes: it may take.
    """

    folder: Path
    collections: int
    files: int
    bytes: int
    max_bytes: int


def default_folder() -> Path:
    """`SFT_SWEEP_CACHE`, else `sft-sweep` below the user's cache folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sft-sweep"


class FeatureStore:
    """The store in one folder, which is made for this user alone.

    Args:
        folder: None for `default_folder()`.
        max_bytes: the least recently used files go when it grows beyond; None for
            `SFT_SWEEP_CACHE_GIB`, else 20 GiB or a quarter of what the disk has free, if less.

    Raises:
        CacheError: the folder cannot be made, or belongs to somebody else.
    """

    def __init__(self, folder: Path | None = None, *, max_bytes: int | None = None) -> None:
        self.folder = folder or default_folder()
        self._root = self.folder / _VERSION
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self.folder, self._root):
                found = path.stat()
                if found.st_uid != os.geteuid():
                    raise CacheError(f"{path}: belongs to another user; set {FOLDER_VARIABLE}")
                if stat.S_IMODE(found.st_mode) & 0o077:
                    path.chmod(0o700)
            free = shutil.disk_usage(self._root).free
        except OSError as error:
            raise CacheError(
                f"{self.folder}: cannot be used as a cache: {error.strerror or error}; set "
                f"{FOLDER_VARIABLE} to another folder"
            ) from error
        self.max_bytes = max_bytes if max_bytes is not None else _default_bytes(free)
        self.warning = (
            f"{self.folder}: features are computed again and not kept: the disk is full"
            if max_bytes is None and free < _LEAST_FREE
            else None
        )
        """Why nothing more is stored, or None."""
        self._collections: dict[str, Collection] = {}

    def collection(
        self, key: Mapping[str, Any], *, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> Collection:
        """The rows of one computation.

        Args:
            key: JSON values, everything that its rows depend on beside the image.
            shape: of a row.
            dtype: of its numbers.
        """
        kind = np.dtype(dtype)
        whole = {**key, "shape": list(shape), "dtype": kind.str}
        text = json.dumps(whole, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        if name not in self._collections:
            self._collections[name] = Collection(self, self._root / name, text, shape, kind)
        return self._collections[name]

    def info(self) -> StoreInfo:
        """What lies there now."""
        files = self._files()
        return StoreInfo(
            folder=self.folder,
            collections=len({path.parent for path, _, _ in files}),
            files=len(files),
            bytes=sum(size for _, size, _ in files),
            max_bytes=self.max_bytes,
        )

    def clear(self) -> int:
        """Remove everything; what other processes have mapped stays valid for them.

        Returns:
            The number of bytes that were freed.

        Raises:
            CacheError: something cannot be removed.
        """
        freed = self.info().bytes
        self._collections.clear()
        for path in self._root.iterdir():
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CacheError(f"{path}: cannot be removed: {error.strerror}") from error
        return freed

    def make_room(self) -> None:
        """Remove what was not used for longest, until the store is within its bounds."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        if total <= self.max_bytes:
            return
        for path, size, _ in sorted(files, key=lambda file: file[2]):
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
            if total <= self.max_bytes:
                return

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, bytes and time of last use of every file of rows; leftovers are swept up."""
        found = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):
                about = path.stat()
                if path.suffix == ".rows":
                    found.append((path, about.st_size, about.st_mtime))
                elif path.suffix == ".tmp" and about.st_mtime < time.time() - _STALE_S:
                    path.unlink()
        return found


def _default_bytes(free: int) -> int:
    given = os.environ.get(SIZE_VARIABLE)
    if given is None:
        return min(DEFAULT_BYTES, int(free * _SHARE_OF_DISK))
    try:
        gib = float(given)
    except ValueError:
        gib = -1.0
    if not (math.isfinite(gib) and gib >= 0):
        raise CacheError(f"{SIZE_VARIABLE}: got {given!r}; allowed: a number of GiB, 0 or more")
    return int(gib * 2**30)


class Collection:
    """Rows of one computation by the hash of their image; made by `FeatureStore.collection`."""

    def __init__(
        self,
        store: FeatureStore,
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
        self._files: dict[str, _RowFile | None] = {}
        self._places: dict[bytes, tuple[str, int]] = {}

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self._row_bytes

    def holds(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """(N,) whether each row is there."""
        self._look()
        return np.asarray([one.tobytes() in self._places for one in ids], dtype=np.bool_)

    def read(self, ids: Ids) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Rows, and which of them are there; the others are left as they happen to be.

        A row whose checksum is wrong is not there, and its file goes.
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
    ) -> tuple[Rows, int]:
        """Every row, from the store or computed now and stored.

        While another process computes rows of this collection, this one waits for them, but no
        longer than computing its own would take.

        Args:
            ids: (N, 32) of the images; an image may come twice.
            compute: (M,) positions within `ids` -> their rows, part after part, in that order.
            patience_s: number of rows -> how long they would take to compute, in seconds.

        Returns:
            (N, *shape) rows, and the number of rows that were computed.
        """
        rows, there = self.read(ids)
        if there.all():
            return rows, 0
        with self._turn(patience_s(int((~there).sum()))):
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
        """Fill in and store the wanted rows, as many at a time as make a file."""
        start = stop = 0
        for part in compute(wanted) if len(wanted) else ():
            rows[wanted[stop : stop + len(part)]] = part
            stop += len(part)
            if (stop - start) * self._row_bytes >= _FILE_BYTES:
                self.add(ids[wanted[start:stop]], rows[wanted[start:stop]])
                start = stop
        if stop > start:
            self.add(ids[wanted[start:stop]], rows[wanted[start:stop]])

    def add(self, ids: Ids, rows: Rows) -> None:
        """Store rows; where that fails, the store says why in `warning` and goes on without."""
        size = len(ids) * (self._row_bytes + _ID_BYTES + 4)
        if self._store.warning is not None or size > self._store.max_bytes * _LARGEST_SHARE:
            return
        name = uuid4().hex
        temporary = self._folder / f"{name}.tmp"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            about = self._folder / "about.json"
            if not about.exists():
                about.write_text(self._about, encoding="utf-8")
            _write_rows(temporary, ids, np.ascontiguousarray(rows, dtype=self._dtype))
            temporary.rename(self._folder / f"{name}.rows")
            self._store.make_room()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._store.warning = (
                f"{self._store.folder}: features are computed again and not kept: "
                f"{error.strerror or error}"
            )

    def _look(self) -> None:
        """Map what came since, let go of what was evicted."""
        try:
            names = {entry.name for entry in os.scandir(self._folder) if _is_rows(entry.name)}
        except OSError:
            names = set()
        for name in self._files.keys() - names:
            self._forget(name)
        for name in names - self._files.keys():
            file = self._files[name] = _RowFile.open(
                self._folder / name, shape=self._shape, dtype=self._dtype
            )
            if file is None:  # damaged: computed again
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
    def _turn(self, patience_s: float) -> Iterator[None]:
        """Compute alone, or after this long beside others; the kernel frees the lock on death."""
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
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(handle)


def _is_rows(name: str) -> bool:
    return name.endswith(".rows")


class _RowFile:
    """A whole file of rows, mapped."""

    def __init__(self, path: Path, ids: Ids, checksums: npt.NDArray[np.uint32], rows: Rows) -> None:
        self.ids = ids
        self.rows = rows
        self._path = path
        self._checksums = checksums
        self._checked = np.zeros(len(ids), dtype=np.bool_)
        self._touched = -math.inf

    @classmethod
    def open(cls, path: Path, *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _RowFile | None:
        """The file, or None where it is gone or not whole."""
        try:
            with path.open("rb") as file:
                magic, count = file.read(len(_MAGIC)), int.from_bytes(file.read(8), "little")
                ids = np.frombuffer(file.read(count * _ID_BYTES), np.uint8).reshape(count, -1)
                checksums = np.frombuffer(file.read(4 * count), np.uint32)
                body = _aligned(file.tell())
                whole = body + count * math.prod(shape) * dtype.itemsize
                if magic != _MAGIC or not count or os.fstat(file.fileno()).st_size != whole:
                    return None
                if zlib.crc32(ids.tobytes() + checksums.tobytes()) != int.from_bytes(
                    file.read(4), "little"
                ):
                    return None
                rows = np.memmap(file, dtype, "r", offset=body, shape=(count, *shape))
        except (OSError, ValueError, OverflowError, MemoryError):
            return None
        return cls(path, ids, checksums, rows)

    def check(self, row: int) -> bool:
        """Whether a row is as it was written; looked at once."""
        now = time.monotonic()
        if now - self._touched > _TOUCH_EVERY_S:
            self._touched = now
            with contextlib.suppress(OSError):
                os.utime(self._path)
        if not self._checked[row]:
            self._checked[row] = zlib.crc32(self.rows[row].data) == self._checksums[row]
        return bool(self._checked[row])


def _aligned(position: int) -> int:
    """Where rows begin: behind a head that ends here and its checksum."""
    return -(-(position + 4) // _ALIGNMENT) * _ALIGNMENT


def _write_rows(path: Path, ids: Ids, rows: Rows) -> None:
    checksums = np.asarray([zlib.crc32(row.data) for row in rows], dtype=np.uint32)
    head = ids.tobytes() + checksums.tobytes()
    with path.open("wb") as file:
        file.write(_MAGIC + len(ids).to_bytes(8, "little") + head)
        position = file.tell()
        file.write(zlib.crc32(head).to_bytes(4, "little"))
        file.write(bytes(_aligned(position) - position - 4))
        file.write(rows.data)
