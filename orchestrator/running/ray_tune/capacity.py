"""How much of a sweep fits on a cluster at once, as its nodes come and go."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from orchestrator.errors import StorageError
from orchestrator.running.broker.broker import Broker
from orchestrator.running.ray_tune.ray_internals import draining_nodes
from orchestrator.space import ResourcesSection

RECOUNT_S = 5.0
"""Shortest time between two counts of the slots, in seconds."""

JOIN_S = 600.0
"""How long a cluster without any processors may take to get some, in seconds."""

MOST_ASKED_FOR = 1000
"""Pieces of work that an autoscaler is asked to make room for, where no limit was set."""

_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True)
class TrialResources:
    """What one piece of work takes of a node.

    Attributes:
        cpus: processors.
        gpus: GPUs, or a share of one.
    """

    cpus: float
    gpus: float

    def fits(self, node: Mapping[str, float]) -> int:
        """How often it fits on a node of these resources.

        Shares of a GPU are taken of one GPU each: on two GPUs, shares of 0.4 fit four times.
        """
        cpus = _times(node.get("CPU", 0.0), self.cpus)
        if not self.gpus:
            return cpus
        if self.gpus >= 1:
            return min(cpus, _times(node.get("GPU", 0.0), self.gpus))
        return min(cpus, int(node.get("GPU", 0.0)) * _times(1.0, self.gpus))

    def bundle(self) -> dict[str, float]:
        """As Ray asks for it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


class Capacity:
    """The slots of the cluster that this process has joined.

    Nodes that are being drained take no new work, and so have no slots.

    Args:
        resources: what a trial is to get.
        elastic: whether nodes may join; then an autoscaler is asked for as many as there is work
            for.

    Attributes:
        piece: what each piece of work takes; a whole GPU where shares are to be measured.
        shares_gpus: whether they are.
    """

    def __init__(self, resources: ResourcesSection, *, elastic: bool) -> None:
        self._most = resources.max_concurrent
        self._elastic = elastic
        self._asked_for = 0
        self._next_count = 0.0
        wanted = resources.gpus_per_trial
        has_gpus = any(node.get("GPU", 0) >= 1 for node in _nodes())
        self.shares_gpus = has_gpus and isinstance(wanted, str)
        self.piece = TrialResources(
            cpus=float(resources.cpus_per_trial),
            gpus=float(has_gpus) if isinstance(wanted, str) else float(wanted),
        )

    def slots(self) -> int:
        """Pieces of work that the nodes take at once now, by `max_concurrent` at most."""
        count = sum(self.piece.fits(node) for node in _nodes())
        return count if self._most is None else min(count, self._most)

    def wait(self, *, timeout_s: float = JOIN_S) -> None:
        """Return once there are slots; an elastic cluster without processors may get its first.

        Raises:
            StorageError: not one piece of work fits.
        """
        until = time.monotonic() + timeout_s
        self.ask_for(1)
        told = False
        while not self.slots():
            if not self._elastic or _totals(_nodes())["CPU"] or time.monotonic() >= until:
                raise self.too_small()
            if not told:
                _log.warning("the cluster has no processors yet; waiting for a node to join")
                told = True
            time.sleep(1.0)

    def too_small(self) -> StorageError:
        """The error of a cluster on which not one piece of work fits."""
        have = _totals(_nodes())
        return StorageError(
            f"resources: a trial needs {self.piece.cpus:g} CPUs and {self.piece.gpus:g} GPUs on "
            f"one node; the cluster has {have['CPU']:g} and {have['GPU']:g} in all. Ask for less "
            "under resources:, or add a node"
        )

    def follow(self, broker: Broker) -> None:
        """Give a broker as many slots as there are now, every few seconds.

        It always keeps one: the work that waits for a node tells an autoscaler to add one.
        """
        now = time.monotonic()
        if not self._elastic or now < self._next_count:
            return
        self._next_count = now + RECOUNT_S
        slots = max(1, self.slots())
        if slots != broker.activity.slots:
            _log.info("slots: %d, after %d", slots, broker.activity.slots)
            broker.resize(slots)
        self.ask_for(broker.open_work)

    def ask_for(self, pieces: int) -> None:
        """Ask the autoscaler, where there is one, for room for so many pieces of work."""
        pieces = min(pieces, self._most or MOST_ASKED_FOR)
        if self._elastic and pieces != self._asked_for:
            self._asked_for = pieces
            request_resources(bundles=[self.piece.bundle()] * pieces)


@contextlib.contextmanager
def capacity(resources: ResourcesSection, *, elastic: bool) -> Iterator[Capacity]:
    """The capacity of the cluster that this process has joined, with one slot at least.

    At the end an autoscaler is asked for nothing any more.

    Args:
        resources: what a trial is to get.
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
    """Make sure that a trial fits on the cluster that this process has joined.

    A cluster without processors may get some.

    Raises:
        StorageError: it does not fit.
    """
    found = Capacity(resources, elastic=False)
    if not found.slots() and _totals(_nodes())["CPU"]:
        raise found.too_small()


def _nodes() -> list[Mapping[str, float]]:
    """The resources of all nodes that take work."""
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
    """How often `part` goes into `whole`; Ray itself counts in ten thousandths."""
    return math.floor(round(whole * 10_000) / round(part * 10_000))
