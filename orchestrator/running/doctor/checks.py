"""Checks over the facts of a machine, a store or a cluster; each is ok, a warning or a problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.requirements import Requirement

from orchestrator.errors import StorageError
from orchestrator.recording import stores
from orchestrator.recording.stores import Place
from orchestrator.running.cluster import (
    ClusterFacts,
    NodeFacts,
    socket_bytes,
    socket_problem,
)
from orchestrator.running.doctor.machine import TEXT_EXTRA, MachineFacts, TextFacts

GIB = 2**30
LITTLE_BYTES, TOO_LITTLE_BYTES = GIB, 64 * 2**20
"""Free space below which a check warns, and below which it reports a problem."""


class Level(StrEnum):
    """The severity of a check."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        what: the subject of the check.
        level: its severity.
        found: the finding and, unless it is ok, the remedy.
    """

    what: str
    level: Level
    found: str


def check_machine(facts: MachineFacts) -> list[Check]:
    """The checks of this machine.

    Args:
        facts: what `gather` found.
    """
    return [
        Check("python", Level.OK, facts.python),
        *_check_packages(facts),
        *_check_texts(facts.texts),
        Check(
            "device",
            Level.OK,
            facts.device
            if facts.has_gpu
            else f"{facts.device}; no GPU is visible: small backbones and deep freezing are quick",
        ),
        Check("cpus", Level.OK, f"{facts.cpus}"),
        Check("memory", Level.OK, f"{facts.memory_bytes / GIB:.1f} GiB"),
        _check_shared_memory(facts.shared_memory_bytes),
        *_check_places(facts),
        _check_sockets(facts.sessions),
        _check_token(facts),
    ]


def check_store(place: Place) -> Check:
    """Check that a store can be written to, by writing an object and removing it.

    Args:
        place: bucket and prefix of the store.
    """
    try:
        stores.check_store(place)
    except StorageError as error:
        return Check("store", Level.PROBLEM, str(error))
    return Check("store", Level.OK, f"{place}: can be written")


def check_cluster(facts: ClusterFacts, *, own: dict[str, str]) -> list[Check]:
    """The checks of a cluster and of each of its nodes.

    Args:
        facts: what the cluster and its nodes report.
        own: versions on this machine, by package; all nodes must have the same.
    """
    nodes = facts.nodes
    gpus = sum(node.gpus for node in nodes)
    cpus = sum(node.cpus for node in nodes)
    return [
        Check("cluster", Level.OK, f"{facts.address}, {len(nodes)} nodes"),
        Check("authentication", Level.WARNING, facts.openness)
        if facts.openness
        else Check("authentication", Level.OK, "asks for a token"),
        Check("resources", Level.OK, f"{cpus:g} CPUs, {gpus:g} GPUs")
        if cpus
        else Check(
            "resources", Level.PROBLEM, "no CPU: trials wait for nodes that have some; add one"
        ),
        *(_check_calls(node) for node in nodes),
        *(_check_versions(node, own) for node in nodes if node.versions or not node.problem),
        *(
            Check(
                f"object store of {node.name}",
                Level.WARNING if node.object_store_bytes < LITTLE_BYTES else Level.OK,
                f"{node.object_store_bytes / GIB:.1f} GiB"
                + ("; more: --object-store-memory" if _small(node.object_store_bytes) else ""),
            )
            for node in nodes
        ),
    ]


def _small(size_bytes: float) -> bool:
    return size_bytes < LITTLE_BYTES


def _check_calls(node: NodeFacts) -> Check:
    what = f"processes of {node.name}"
    if node.problem is not None:
        return Check(what, Level.PROBLEM, node.problem)
    return Check(what, Level.OK, "start, and reach this machine")


def _check_versions(node: NodeFacts, own: dict[str, str]) -> Check:
    other = [
        f"{package} {node.versions.get(package, 'is missing')}, here {version}"
        for package, version in own.items()
        if node.versions.get(package) != version
    ]
    if other:
        return Check(
            f"versions of {node.name}",
            Level.PROBLEM,
            f"{'; '.join(other)}. Install the same there: pip install -c constraints.txt sft-sweep",
        )
    return Check(f"versions of {node.name}", Level.OK, "as here")


def _check_packages(facts: MachineFacts) -> Iterator[Check]:
    for name, (requirement, version) in facts.packages.items():
        if version is None:
            yield Check(name, Level.PROBLEM, f"not installed; pip install '{requirement}'")
        else:
            yield from _check_version(name, requirement, version)
    if all(version for _, version in facts.packages.values()):
        yield Check("packages", Level.OK, f"{len(facts.packages)} installed")


def _check_version(name: str, requirement: Requirement, version: str) -> Iterator[Check]:
    if not requirement.specifier.contains(version, prereleases=True):
        tried = requirement.specifier or "any version"
        yield Check(name, Level.WARNING, f"{version}; tried: {tried}")


def _check_texts(facts: TextFacts) -> Iterator[Check]:
    """Backbones of texts are an extra: what is not there at all is no fault."""
    pip = f"pip install 'sft-sweep[{TEXT_EXTRA}]'"
    missing = [name for name, (_, version) in facts.packages.items() if version is None]
    if TEXT_EXTRA in missing:
        yield Check("texts", Level.OK, f"not installed; for backbones of texts: {pip}")
        return
    if missing:
        yield Check("texts", Level.WARNING, f"{', '.join(missing)} not installed; {pip}")
        return
    for name, (requirement, version) in facts.packages.items():
        yield from _check_version(f"{name} for texts", requirement, str(version))
    hub = facts.hub
    assert hub is not None  # its client is one of the packages
    told = f"{TEXT_EXTRA} {facts.packages[TEXT_EXTRA][1]}; the hub's cache has {facts.models}"
    told += f" of their backbones: {hub.path}"
    yield (
        Check("texts", Level.OK, told)
        if hub.writable
        else Check("texts", Level.WARNING, f"{told}, where this user may not write; set HF_HOME")
    )


def _check_shared_memory(free_bytes: int | None) -> Check:
    if free_bytes is None:
        return Check("shared memory", Level.WARNING, "no /dev/shm; Ray's object store will be slow")
    if _small(free_bytes):
        return Check(
            "shared memory",
            Level.WARNING,
            f"{free_bytes / GIB:.2f} GiB free in /dev/shm; in Docker give --shm-size=4g",
        )
    return Check("shared memory", Level.OK, f"{free_bytes / GIB:.1f} GiB free")


def _check_places(facts: MachineFacts) -> Iterator[Check]:
    for place in facts.places:
        free = f"{place.path}: {place.free_bytes / GIB:.1f} GiB free"
        if not place.writable:
            level, found = Level.PROBLEM, f"{place.path}: this user may not write there"
        elif place.free_bytes < TOO_LITTLE_BYTES:
            level, found = Level.PROBLEM, f"{free}; make room"
        elif _small(place.free_bytes):
            level, found = Level.WARNING, f"{free}; that is little"
        else:
            level, found = Level.OK, free
        yield Check(f"room for {place.name}", level, found)


def _check_sockets(sessions: Path) -> Check:
    problem = socket_problem(sessions)
    if problem is not None:
        return Check("Ray's sockets", Level.PROBLEM, problem)
    return Check("Ray's sockets", Level.OK, f"paths of {socket_bytes(sessions)} bytes")


def _check_token(facts: MachineFacts) -> Check:
    if facts.token_file is None:
        return Check(
            "token",
            Level.PROBLEM,
            "this user has no home to keep it in; set HOME to a folder that this user may write to",
        )
    if facts.token_mode is None:
        return Check("token", Level.OK, "none yet; the first sweep makes one")
    if facts.token_mode & 0o077:
        return Check(
            "token",
            Level.WARNING,
            f"{facts.token_file}: mode {facts.token_mode:04o}, others may read it; chmod 600",
        )
    return Check("token", Level.OK, f"{facts.token_file}, for this user alone")
