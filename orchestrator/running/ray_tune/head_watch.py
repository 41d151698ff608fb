"""Detection of a lost cluster head.

Ray itself hangs for a minute if the head is lost, and then ends the process without a message.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import ray

POLL_S = 2.0
"""Time between two connections to the head, and timeout of each, in seconds."""

LOST_AFTER_S = 20.0
"""Time without a connection after which the head counts as lost, in seconds; restarts take less."""

LEAVE_AFTER_S = 15.0
"""Time for the driver to end by itself after the loss, in seconds."""


@contextlib.contextmanager
def watching_head(*, lost: Callable[[], None], stuck: Callable[[], None]) -> Iterator[None]:
    """Watch the head of the running cluster from a daemon thread within the block.

    Args:
        lost: called once, in the thread, when the head has not answered for `LOST_AFTER_S`.
        stuck: called once, in the thread, if the process is still alive `LEAVE_AFTER_S` later.
            Calls of Ray that wait for the head, its shutdown included, cannot be interrupted.
    """
    ended = threading.Event()
    address = ray.get_runtime_context().gcs_address

    def watch() -> None:
        silent_s = 0.0
        while silent_s < LOST_AFTER_S:
            if ended.wait(POLL_S):
                return
            silent_s = 0.0 if _answers(address) else silent_s + POLL_S
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
        socket.create_connection((host.strip("[]"), int(port)), timeout=POLL_S).close()
    except OSError:
        return False
    return True
