"""Sweeps fetched from a store into working directories on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.journal import is_locked
from orchestrator.recording.stores import drivers
from orchestrator.recording.stores.objects import Store
from orchestrator.recording.stores.places import Place, locate
from trainable.atomic_files import atomic_write

MANIFEST, JOURNAL, CHECKPOINTS = "manifest.json", "journal.log", "checkpoints"

_HOME = ".store"
"""File in the folder of all sweeps of one place; it has the URL of the place."""

_log = logging.getLogger("sft_sweep")


def work_folder(place: Place) -> Path:
    """Return this machine's folder for sweeps of a place; created if missing.

    Raises:
        StorageError: it cannot be created.
    """
    folder = _folder(place)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / _HOME).exists():
            with atomic_write(folder / _HOME, "w") as sink:
                sink.write(str(place))
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be made, which {place} is worked on in: {error.strerror}; set "
            "SFT_SWEEP_CACHE to another folder"
        ) from error
    return folder


def home_of(path: Path) -> Place | None:
    """Return the place in a store that a sweep directory is a copy of, or None.

    Only directories in this user's cache folder count, so that a sweep directory from somebody else
    cannot choose where it is uploaded.
    """
    try:
        found = locate((path.parent / _HOME).read_text(encoding="utf-8"))
    except (OSError, ValueError, UsageError):
        return None
    if isinstance(found, Path) or _folder(found).resolve() != path.parent.resolve():
        return None
    return found / path.name


def names_in(place: Place) -> list[str]:
    """Return the names of the sweeps in a place.

    Raises:
        StorageError: the store fails.
    """
    below = Store(place).list(recursive=False)
    return [
        name
        for name, (size, _) in below.items()
        if size < 0 and not name.startswith(".") and Store(place / name).changed_ns(MANIFEST)
    ]


def check_no_driver(place: Place) -> None:
    """Make sure that no live process runs the sweep in a place, and that it is writable.

    Raises:
        UsageError: one does.
        StorageError: the store fails.
    """
    if not is_locked_here(_folder(place.parent) / place.name):  # a local lock is exact
        drivers.check_no_driver(Store(place))


def is_locked_here(path: Path) -> bool:
    """Return whether a process of this machine runs the sweep in a directory."""
    return (path / JOURNAL).is_file() and is_locked(path / JOURNAL)


def pull(place: Place, *, checkpoints: bool = False) -> Path:
    """Fetch a sweep into its directory on this machine.

    A directory is kept unchanged if its journal extends that of the store, since the rest was not
    uploaded yet, or if its sweep runs here. In all other cases it becomes a copy of the store.

    Args:
        place: place of the sweep.
        checkpoints: whether to fetch checkpoints, too; only resuming needs them.

    Returns:
        The directory.

    Raises:
        UsageError: there is no sweep.
        StorageError: the store or the disk fails.
    """
    local = work_folder(place.parent) / place.name
    try:
        with _alone(local):
            if not is_locked_here(local):
                _pull(place, local, checkpoints=checkpoints)
    except OSError as error:
        raise StorageError(f"{local}: cannot be written: {error.strerror}") from error
    return local


def _pull(place: Place, local: Path, *, checkpoints: bool) -> None:
    store = Store(place)
    there = {name: about for name, about in store.list().items() if _is_ours(name, about[0])}
    if MANIFEST not in there:
        if (local / MANIFEST).is_file():
            return  # begun here, and never uploaded
        raise UsageError(
            f"{place}: no sweep here (manifest.json is missing); see: sft-sweep list --out "
            f"{place.parent.argument}"
        )
    local.mkdir(exist_ok=True)
    with (local / JOURNAL).open("a+b") as journal:
        # The file is rewritten in place and under its lock: a driver that has it open must not be
        # left with an unlinked file.
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # a driver has just started here
        journal.seek(0)
        mine, theirs = journal.read(), store.read(JOURNAL) or b""
        if len(mine) > len(theirs) and mine.startswith(theirs):
            return
        if not theirs.startswith(mine):
            _log.warning("%s: replaced by %s, which went another way", local, place)
        _fetch(store, there, local, checkpoints=checkpoints)
        if mine != theirs:
            _replace(journal, theirs)
    _fetch_one(store, MANIFEST, there[MANIFEST], local)


def _fetch(
    store: Store, there: dict[str, tuple[int, int]], local: Path, *, checkpoints: bool
) -> None:
    """Fetch all files but journal and manifest, and delete checkpoints that the store lacks."""
    for name, about in there.items():
        if name in (MANIFEST, JOURNAL) or (name.startswith(CHECKPOINTS) and not checkpoints):
            continue
        _fetch_one(store, name, about, local)
    if checkpoints:
        for path in (local / CHECKPOINTS).glob("*"):
            if f"{CHECKPOINTS}/{path.name}" not in there:
                path.unlink(missing_ok=True)


def _fetch_one(store: Store, name: str, about: tuple[int, int], local: Path) -> None:
    """Fetch one file if its size or time differ, and give it the store's time."""
    path, (size, changed_ns) = local / name, about
    if path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) == (size, changed_ns):
        return
    content = store.read(name)
    if content is None:
        return  # removed meanwhile
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path, durable=False) as sink:
        sink.write(content)
    os.utime(path, ns=(changed_ns, changed_ns))


def _replace(file: IO[bytes], content: bytes) -> None:
    file.truncate(0)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _is_ours(name: str, size: int) -> bool:
    """Return whether it is a file of a sweep; other names of objects could lead elsewhere."""
    folder, _, file = name.rpartition("/")
    return (
        size >= 0
        and folder in ("", CHECKPOINTS)
        and not file.startswith(".")
        and file not in ("", drivers.OBJECT)
        and "\0" not in file
    )


@contextmanager
def _alone(local: Path) -> Iterator[None]:
    """Hold the lock for fetching into a directory."""
    with (local.parent / f".{local.name}.fetching").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _folder(place: Place) -> Path:
    from trainable.cache_folder import default_folder

    digest = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    return default_folder() / "sweeps" / digest
