"""Ownership of a sweep in a store, recorded in an object, since stores have no locks."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from orchestrator.errors import UsageError
from orchestrator.recording.stores.objects import Store, check_store, now

OBJECT = "driver.json"
LIVE_S = 120.0
"""Age in seconds from which the object of a driver means that the driver is dead."""
BEAT_S = 30.0
"""Seconds between two renewals of the object."""


@dataclass(frozen=True)
class Driver:
    """A process that runs a sweep.

    Attributes:
        host: name of its machine.
        pid: its process id there.
        token: random text that distinguishes it from a later process of the same id.
    """

    host: str
    pid: int
    token: str

    @property
    def is_dead(self) -> bool:
        """Whether it has certainly ended, which is only known on its own machine."""
        if self.host != platform.node():
            return False
        if self.pid == os.getpid():
            return True  # an earlier process of the same id: this one has not claimed the sweep yet
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


class Claim:
    """The claim of this process to be the driver of the sweep in a store; renewed while it runs.

    Args:
        store: store of the sweep.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._me = Driver(platform.node(), os.getpid(), uuid4().hex)
        self._renewed: float | None = None

    def take(self) -> None:
        """Become the driver.

        Raises:
            UsageError: another one is alive.
            StorageError: the store fails.
        """
        check_no_driver(self._store)
        self._write()

    def renew(self) -> None:
        """Renew the claim if `BEAT_S` have passed since the last time.

        It is not `Throttled`: a driver whose store is slow would seem dead between two calls.

        Raises:
            UsageError: another process has taken the sweep over.
            StorageError: the store fails.
        """
        if self._renewed is not None and time.monotonic() - self._renewed >= BEAT_S:
            self.check()
            self._write()

    def check(self) -> None:
        """Make sure that no other process has taken the sweep over.

        Raises:
            UsageError: one has; the work of this process must not overwrite it.
            StorageError: the store fails.
        """
        found = read_driver(self._store)
        if found is not None and found.token != self._me.token:
            raise UsageError(
                f"{self._store.place}: process {found.pid} on {found.host} has taken this sweep "
                "over, since this one was not heard of; nothing more is copied there"
            )

    def give_back(self) -> None:
        """Release the claim.

        Raises:
            StorageError: the store fails.
        """
        self._store.remove(OBJECT)

    def _write(self) -> None:
        text = json.dumps({**vars(self._me), "time": now()})
        self._store.write(OBJECT, text.encode() + b"\n")
        self._renewed = time.monotonic()


def check_no_driver(store: Store) -> None:
    """Make sure that no live process runs the sweep in a store, by the store's clock.

    Raises:
        UsageError: one does.
        StorageError: the store fails, or is not writable.
    """
    now_ns = check_store(store.place)
    found, since = read_driver(store), store.changed_ns(OBJECT)
    if found is None or since is None or found.is_dead:
        return
    age_s = max(0.0, (now_ns - since) / 1e9)
    if age_s < LIVE_S:
        raise UsageError(
            f"{store.place}: process {found.pid} on {found.host} runs this sweep, and was heard of "
            f"{age_s:.0f} s ago; wait for it. One that is dead is taken for it after "
            f"{LIVE_S:.0f} s"
        )


def read_driver(store: Store) -> Driver | None:
    """Return the process that runs the sweep, or the last one if it could not release its claim.

    Raises:
        StorageError: the store fails.
    """
    try:
        data: dict[str, Any] = json.loads(store.read(OBJECT) or b"")
        return Driver(str(data["host"]), int(data["pid"]), str(data["token"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
