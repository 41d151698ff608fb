"""How the head of a private cluster starts: for this machine alone, and with little beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray._private.node import Node

from orchestrator.tuning.authentication import loopback_only

SHARED_ONLY = ("start_monitor", "start_log_monitor", "start_api_server")
"""Ray's methods that start the autoscaler, what collects logs, and what takes jobs."""


@contextlib.contextmanager
def private_head() -> Iterator[None]:
    """Let a cluster that starts within the block be a private one.

    It listens on loopback alone, and does without what only shared clusters need: it has one node
    that never grows, leaves its logs where they are written and takes no jobs. Those three services
    cost a sixth of the processor time until the first trial, and Ray has no option to leave them
    out. A version of Ray without one of the methods starts as it would.
    """
    replaced = {name: getattr(Node, name) for name in SHARED_ONLY if hasattr(Node, name)}
    for name in replaced:
        setattr(Node, name, _start_nothing)
    try:
        with loopback_only():
            yield
    finally:
        for name, method in replaced.items():
            setattr(Node, name, method)


def _start_nothing(node: Node, **_: Any) -> None:
    """Stand for one of Node's methods."""
