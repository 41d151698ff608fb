"""Copies of a running sweep's directory to a store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import StorageError, SweepError
from orchestrator.recording.stores.drivers import Claim
from orchestrator.recording.stores.fetching import CHECKPOINTS, JOURNAL, MANIFEST, home_of
from orchestrator.recording.stores.objects import Store
from orchestrator.recording.stores.places import Place
from orchestrator.throttle import Throttled

PUSH_EVERY_S = 10.0
"""Shortest time between two uploads, in seconds."""

_log = logging.getLogger("sft_sweep")


class Mirror:
    """A sweep directory and its copy in a store.

    Args:
        local: the directory.
        place: place of the copy.
    """

    def __init__(self, local: Path, place: Place) -> None:
        self._local = local
        self._store = Store(place)
        self._sent: dict[str, tuple[int, int]] = {}
        self._checkpoints: set[str] | None = None
        self._claim = Claim(self._store)

    def open(self) -> None:
        """Claim the sweep in the store.

        Raises:
            UsageError: another live process has claimed it.
            StorageError: the store fails.
        """
        self._claim.take()

    def close(self) -> None:
        """Release the claim.

        Raises:
            StorageError: the store fails.
        """
        self._claim.give_back()

    def heartbeat(self) -> None:
        """Renew the claim if it is time to.

        Raises:
            UsageError: another process has taken the sweep over.
            StorageError: the store fails.
        """
        self._claim.renew()

    def push(self) -> list[str]:
        """Upload changed files, remove deleted checkpoints, and return the names of what was sent.

        The order keeps the store consistent with the journal. The journal is read first and sent
        after the tables, so that they are never behind it. Checkpoints are listed before it is
        read and sent after it, so that their trials are in it. The manifest comes last: without
        one, a place is not a sweep.

        Raises:
            UsageError: another process has taken the sweep over.
            StorageError: the store fails; the next push sends the rest.
        """
        self._claim.check()
        files = _files(self._local)
        checkpoints = [name for name in files if name.startswith(f"{CHECKPOINTS}/")]
        others = sorted(set(files) - {*checkpoints, JOURNAL, MANIFEST})
        journal = (self._local / JOURNAL).read_bytes()
        sent = self._send(others, files)
        if self._sent.get(JOURNAL) != (len(journal), 0):
            self._store.write(JOURNAL, journal)
            self._sent[JOURNAL] = len(journal), 0
            sent.append(JOURNAL)
        sent += self._send(checkpoints, files)
        self._remove_others(set(checkpoints))
        return sent + self._send([MANIFEST], files)

    def _send(self, names: list[str], files: dict[str, tuple[int, int]]) -> list[str]:
        sent = []
        for name in names:
            if name not in files or self._sent.get(name) == files[name]:
                continue
            try:
                content = (self._local / name).read_bytes()
            except FileNotFoundError:
                continue  # a checkpoint that was just deleted
            self._store.write(name, content)
            self._sent[name] = files[name]
            sent.append(name)
            self._claim.renew()
        return sent

    def _remove_others(self, checkpoints: set[str]) -> None:
        if self._checkpoints is None:
            self._checkpoints = {
                name
                for name, (size, _) in self._store.list().items()
                if size >= 0 and name.startswith(f"{CHECKPOINTS}/")
            }
        for name in sorted(self._checkpoints - checkpoints):
            self._store.remove(name)
            self._sent.pop(name, None)
            self._checkpoints.discard(name)
        self._checkpoints |= checkpoints


def _files(local: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of the files of a sweep, by name.

    Files whose names begin with a dot are being written; Optuna's lock is local.
    """
    found = {}
    for path in (*local.iterdir(), *(local / CHECKPOINTS).glob("*")):
        if path.name.startswith(".") or path.suffix == ".lock" or not path.is_file():
            continue
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # a checkpoint that was just deleted
        found[path.relative_to(local).as_posix()] = about.st_size, about.st_mtime_ns
    return found


@contextmanager
def mirrored(local: Path) -> Iterator[None]:
    """Upload a sweep to its store while it runs, and once more at the end.

    A sweep without a store is left alone. A store that fails within the block does not stop the
    sweep: the failure is logged once, and the upload is retried.

    Raises:
        UsageError: another process runs the sweep.
        StorageError: the first upload fails, before the block; or the last one, after it.
    """
    place = home_of(local)
    if place is None:
        yield
        return
    mirror = Mirror(local, place)
    mirror.open()
    try:
        mirror.push()
        with _pushing(mirror):
            yield
    except BaseException:
        problem = _finish(mirror, local, place)
        if problem is not None:
            _log.error("%s", problem)
        raise
    problem = _finish(mirror, local, place)
    if problem is not None:
        raise problem


def _finish(mirror: Mirror, local: Path, place: Place) -> StorageError | None:
    """Upload the rest and release the claim; return the error, or None."""
    try:
        mirror.push()
        mirror.close()
    except (SweepError, OSError) as error:
        return StorageError(
            f"{error}\nThe end of the sweep is not in the store. All of it is in {local}; copy it "
            f"from this machine with: sft-sweep resume {place.argument}"
        )
    return None


@contextmanager
def _pushing(mirror: Mirror) -> Iterator[None]:
    """Upload regularly from a thread while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=_push_until, args=(mirror, over), name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _push_until(mirror: Mirror, over: threading.Event) -> None:
    failing = False
    push = Throttled(mirror.push, every_s=PUSH_EVERY_S)
    while not over.wait(1.0):
        try:
            mirror.heartbeat()
            if not push():
                continue
        except Exception as error:  # the sweep goes on after any error: its directory is local
            if not failing:
                _log.warning("%s. The sweep goes on, and it is tried again", error)
            failing = True
            over.wait(PUSH_EVERY_S)
        else:
            if failing:
                _log.info("copied to the store again")
            failing = False
