"""The number of slots of a cluster, as nodes join and leave."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import ray

from orchestrator.errors import StorageError
from orchestrator.running.broker.broker import Broker
from orchestrator.running.ray_tune.ray_internals import draining_nodes
from orchestrator.space import ResourcesSection
from orchestrator.throttle import Throttled

RECOUNT_S = 5.0
"""Shortest time between two counts of the slots, in seconds."""

JOIN_S = 600.0
"""How long to wait for a first node with processors, in seconds."""

MOST_ASKED_FOR = 1000
"""Most slots requested of an autoscaler if the file sets no limit."""

_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True)
class TrialResources:
    """The resources of one piece of work.

    Attributes:
        cpus: number of CPUs.
        gpus: number of GPUs, or a fraction of one.
    """

    cpus: float
    gpus: float

    def fits(self, node: Mapping[str, float]) -> int:
        """Number of pieces of work that fit on a node.

        A fraction of a GPU must lie on one GPU: on two GPUs, fractions of 0.4 fit four times.

        Args:
            node: resources of the node by Ray's names, such as `CPU` and `GPU`.
        """
        cpus = _times(node.get("CPU", 0.0), self.cpus)
        if not self.gpus:
            return cpus
        if self.gpus >= 1:
            return min(cpus, _times(node.get("GPU", 0.0), self.gpus))
        return min(cpus, int(node.get("GPU", 0.0)) * _times(1.0, self.gpus))

    def bundle(self) -> dict[str, float]:
        """The resources as a bundle of Ray."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


class Capacity:
    """The slots of the cluster that this process has joined.

    Nodes that are being drained take no new work, so they have no slots.

    Args:
        resources: section `resources` of the search space.
        elastic: whether nodes may join; if so, an autoscaler is asked for room for all open work.

    Attributes:
        trial_resources: resources of each piece of work; a whole GPU until fractions are measured.
        shares_gpus: whether GPU fractions are to be measured.
    """

    def __init__(self, resources: ResourcesSection, *, elastic: bool) -> None:
        self._max_concurrent = resources.max_concurrent
        self._elastic = elastic
        self._num_requested = 0
        self._recount = Throttled(self._resize, every_s=RECOUNT_S, at_once=True)
        wanted = resources.gpus_per_trial
        has_gpus = any(node.get("GPU", 0) >= 1 for node in _nodes())
        self.shares_gpus = has_gpus and isinstance(wanted, str)
        self.trial_resources = TrialResources(
            cpus=float(resources.cpus_per_trial),
            gpus=float(has_gpus) if isinstance(wanted, str) else float(wanted),
        )

    def slots(self) -> int:
        """Number of pieces of work that fit on the nodes now, at most `max_concurrent`."""
        count = sum(self.trial_resources.fits(node) for node in _nodes())
        return count if self._max_concurrent is None else min(count, self._max_concurrent)

    def wait(self, *, timeout_s: float = JOIN_S) -> None:
        """Wait until there is a slot.

        Only an elastic cluster without any processors is waited for.

        Args:
            timeout_s: longest wait for a node, in seconds.

        Raises:
            StorageError: not one piece of work fits.
        """
        until = time.monotonic() + timeout_s
        self.ask_for(1)
        warned = False
        while not self.slots():
            if not self._elastic or _totals(_nodes())["CPU"] or time.monotonic() >= until:
                raise self.too_small()
            if not warned:
                _log.warning("the cluster has no processors yet; waiting for a node to join")
                warned = True
            time.sleep(1.0)

    def too_small(self) -> StorageError:
        """The error for a cluster on which not one piece of work fits."""
        have = _totals(_nodes())
        return StorageError(
            f"resources: a trial needs {self.trial_resources.cpus:g} CPUs and "
            f"{self.trial_resources.gpus:g} GPUs on "
            f"one node; the cluster has {have['CPU']:g} and {have['GPU']:g} in all. Ask for less "
            "under resources:, or add a node"
        )

    def follow(self, broker: Broker) -> None:
        """Set the broker's slots to the present number, at most every `RECOUNT_S` seconds.

        The broker keeps at least one slot, because waiting work makes an autoscaler add a node.
        """
        if self._elastic:
            self._recount(broker)

    def _resize(self, broker: Broker) -> None:
        slots = max(1, self.slots())
        if slots != broker.activity.slots:
            _log.info("slots: %d, after %d", slots, broker.activity.slots)
            broker.resize(slots)
        self.ask_for(broker.open_work)

    def ask_for(self, pieces: int) -> None:
        """Request room for this number of pieces of work from the autoscaler, if there is one."""
        pieces = min(pieces, self._max_concurrent or MOST_ASKED_FOR)
        if self._elastic and pieces != self._num_requested:
            self._num_requested = pieces
            from ray.autoscaler.sdk import request_resources  # slow; a private cluster never asks

            request_resources(bundles=[self.trial_resources.bundle()] * pieces)


@contextlib.contextmanager
def capacity(resources: ResourcesSection, *, elastic: bool) -> Iterator[Capacity]:
    """Yield the capacity of the cluster that this process has joined, with at least one slot.

    After the block, the request to the autoscaler is withdrawn.

    Args:
        resources: section `resources` of the search space.
        elastic: whether nodes may join.

    Raises:
        StorageError: not one piece of work fits.
    """
    found = Capacity(resources, elastic=elastic)
    try:
        found.wait()
        yield found
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            found.ask_for(0)


def check_room(resources: ResourcesSection) -> None:
    """Check that a trial fits on the cluster that this process has joined.

    A cluster without any processors passes, because a node may still join.

    Args:
        resources: section `resources` of the search space.

    Raises:
        StorageError: a trial does not fit.
    """
    found = Capacity(resources, elastic=False)
    if not found.slots() and _totals(_nodes())["CPU"]:
        raise found.too_small()


def _nodes() -> list[Mapping[str, float]]:
    """The resources of every node that takes new work."""
    draining = draining_nodes()
    return [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in draining
    ]


def _totals(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found = {"CPU": 0.0, "GPU": 0.0}
    for node in nodes:
        for name in found:
            found[name] += node.get(name, 0.0)
    return found


def _times(whole: float, part: float) -> int:
    """Number of times that `part` fits into `whole`; Ray counts in ten thousandths."""
    return math.floor(round(whole * 10_000) / round(part * 10_000))
