"""Joining or starting a Ray cluster, and how much of a sweep fits on it at once."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import ray

from orchestrator.errors import StorageError
from orchestrator.space import ResourcesSection

LOCAL = "local"

CONNECT_TIMEOUT_S = 10.0
"""How long a cluster's address may take to answer, in seconds."""


@dataclass(frozen=True)
class Slots:
    """How work is placed.

    Attributes:
        count: pieces of work that run at the same time.
        cpus: of each.
        gpus: of each.
    """

    count: int
    cpus: float
    gpus: float


@contextlib.contextmanager
def cluster(
    address: str, *, num_cpus: int | None = None, modules: Sequence[ModuleType] = ()
) -> Iterator[None]:
    """A Ray cluster to run on: a private one on this machine, or the one at `address`.

    The private one binds to loopback, has no dashboard, and ends with the context.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        num_cpus: processors of the private cluster; None for those of this machine.
        modules: packages and modules that are sent to every node, to be imported there.

    Raises:
        StorageError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's coming default, asked for now: it warns of the change on every start otherwise.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address == LOCAL
    _check_reachable(address)
    options: dict[str, Any] = {"include_dashboard": False, "num_cpus": num_cpus} if own else {}
    if modules:
        options["runtime_env"] = {"py_modules": list(modules)}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise StorageError(f"--address {address}: no Ray cluster answers: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at `host:port` first: Ray itself goes on knocking for eight minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StorageError(
            f"--address {address}: nothing answers there ({error}); allowed: auto, host:port or "
            "ray://host:port of a running Ray cluster, or nothing for this machine"
        ) from error


def find_slots(resources: ResourcesSection) -> Slots:
    """How many pieces of work the cluster takes at once.

    Raises:
        StorageError: not even one fits.
    """
    have = ray.cluster_resources()
    num_gpus = float(have.get("GPU", 0))
    cpus = float(resources.cpus_per_trial)
    wanted = resources.gpus_per_trial
    gpus = min(1.0, num_gpus) if isinstance(wanted, str) else float(wanted)
    count = int(have.get("CPU", 0) / cpus)
    if gpus:
        count = min(count, int(num_gpus / gpus))
    if resources.max_concurrent is not None:
        count = min(count, resources.max_concurrent)
    if count < 1:
        raise StorageError(
            f"resources: a trial needs {cpus:g} CPUs and {gpus:g} GPUs; the cluster has "
            f"{have.get('CPU', 0):g} and {num_gpus:g}. Ask for less under resources:"
        )
    return Slots(count=count, cpus=cpus, gpus=gpus)
