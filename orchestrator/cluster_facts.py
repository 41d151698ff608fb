"""What a cluster says of itself, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node.

    Attributes:
        name: its address.
        cpus: for trials.
        gpus: for trials.
        object_store_bytes: of its share of the object store.
        versions: of Python and packages; none where it did not answer.
        problem: why trials cannot run there, or None where a process there reached this program.
    """

    name: str
    cpus: float
    gpus: float
    object_store_bytes: float
    versions: dict[str, str]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """A cluster.

    Attributes:
        address: of its head.
        openness: what to warn of where it lets everybody in, or None.
        nodes: those that are alive.
    """

    address: str
    openness: str | None
    nodes: tuple[NodeFacts, ...]
