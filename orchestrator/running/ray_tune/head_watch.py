"""Notices that the head of the cluster is gone.

Ray's own answer to that is a minute of silence, then the end of the process without a word.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import ray

KNOCK_S = 2.0
"""Time between two knocks at the head's door, in seconds."""

LOST_AFTER_S = 20.0
"""How long nobody may answer before the head is given up: a restart is shorter."""

LEAVE_AFTER_S = 15.0
"""How long the driver may take to come to an end by itself after that, in seconds."""


@contextlib.contextmanager
def watching_head(*, lost: Callable[[], None], stuck: Callable[[], None]) -> Iterator[None]:
    """Watch the head of the running cluster from a thread of its own.

    Args:
        lost: called once when the head has not answered for `LOST_AFTER_S`.
        stuck: called once when the process still lives `LEAVE_AFTER_S` after that: calls of Ray
            that wait for the head, its shutdown among them, cannot be interrupted.
    """
    ended = threading.Event()
    address = ray.get_runtime_context().gcs_address

    def watch() -> None:
        silent_s = 0.0
        while silent_s < LOST_AFTER_S:
            if ended.wait(KNOCK_S):
                return
            silent_s = 0.0 if _answers(address) else silent_s + KNOCK_S
        lost()
        time.sleep(LEAVE_AFTER_S)
        stuck()

    threading.Thread(target=watch, name="head-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except OSError:
        return False
    return True
