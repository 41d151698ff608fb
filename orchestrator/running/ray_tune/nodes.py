"""Probes of a cluster's nodes: versions, and connections back to the driver."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import StorageError
from orchestrator.running.cluster import ClusterFacts, NodeFacts
from orchestrator.running.ray_tune.admission import OPEN
from orchestrator.running.ray_tune.cluster import cluster
from orchestrator.text import last_line

ANSWER_S = 60.0
"""Timeout of a node's answer, in seconds; it includes the start of a process there."""

CALL_S = 10.0
"""Timeout for a process to get a small object from the driver, in seconds."""

PACKAGES = ("sft-sweep", "ray", "torch", "torchvision")
"""Packages that must have the same version on all machines."""

_PORTS = (
    "open its ports for them in the firewall (10002 to 19999, or --min-worker-port to "
    "--max-worker-port of `ray start` here; --node-manager-port and --object-manager-port)"
)


_log = logging.getLogger("sft_sweep")


def own_versions() -> dict[str, str]:
    """Versions of Python (`major.minor`) and of the installed `PACKAGES` on this machine."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Probe:
    """An actor that does on a node what a trial does: start, and get an object of the driver."""

    def versions(self) -> dict[str, str]:
        """Versions on the node; see `own_versions`."""
        return own_versions()

    def call_driver(self, owned: list[ray.ObjectRef]) -> None:
        """Get objects that the driver owns, which takes a connection to the driver.

        Args:
            owned: references in a list; Ray would resolve a plain reference before the call.

        Raises:
            ray.exceptions.GetTimeoutError: the driver did not answer within `CALL_S`.
        """
        ray.get(owned, timeout=CALL_S)


@dataclass(frozen=True)
class _Answer:
    """The result of a probe.

    Attributes:
        versions: versions on the node; empty if it did not answer.
        problem: reason why trials cannot run there, or None.
        late: whether the only problem is that the answer did not come in time.
    """

    versions: dict[str, str]
    problem: str | None = None
    late: bool = False


def ask_nodes(address: str) -> ClusterFacts:
    """Join a cluster and probe each of its nodes.

    Args:
        address: address of the cluster; see `cluster`.

    Raises:
        StorageError: no cluster answers at the address, or it refuses access.
    """
    with cluster(address) as is_open:
        head = ray.get_runtime_context().gcs_address
        nodes = _alive()
        return ClusterFacts(
            address=head,
            openness=OPEN if is_open else None,
            nodes=tuple(
                _facts(node, answer) for node, answer in zip(nodes, _probe(nodes), strict=True)
            ),
        )


def check_nodes(address: str) -> None:
    """Check that trials can run on every node of the running cluster and reach the driver.

    A node that does not answer in time causes a warning only: its packages may still be installing.

    Args:
        address: address of the cluster, for messages.

    Raises:
        StorageError: trials cannot run on some nodes; the message lists each with its reason.
    """
    nodes = _alive()
    answers = _probe(nodes)
    still = {node["NodeID"] for node in _alive()}  # nodes that left meanwhile do not count
    problems = []
    for node, answer in zip(nodes, answers, strict=True):
        if answer.problem is not None and node["NodeID"] in still:
            line = f"{node['NodeManagerAddress']}: {answer.problem}"
            if answer.late:
                _log.warning("--address %s: %s", address, line)
            else:
                problems.append(f"  {line}")
    if problems:
        listed = "\n".join(problems)
        raise StorageError(
            f"--address {address}: trials cannot run on {len(problems)} of {len(nodes)} nodes\n"
            f"{listed}\nCheck again with: sft-sweep doctor --address {address}"
        )


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _probe(nodes: Sequence[dict[str, Any]]) -> list[_Answer]:
    """The result of a `Probe` on each node, in the order of the nodes; all run at once."""
    owned = [ray.put("an object of the driver")]
    kind = ray.remote(Probe)
    probes = [
        kind.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=False),
        ).remote()
        for node in nodes
    ]
    versions = [probe.versions.remote() for probe in probes]
    calls = [probe.call_driver.remote(owned) for probe in probes]
    ray.wait([*versions, *calls], num_returns=2 * len(nodes), timeout=ANSWER_S)
    answers = [_read(*refs) for refs in zip(versions, calls, strict=True)]
    for probe in probes:
        ray.kill(probe)
    return answers


def _read(versions: ray.ObjectRef, call: ray.ObjectRef) -> _Answer:
    late = (
        f"no process there has answered within {ANSWER_S:.0f} s: it is still being set up, has no "
        "memory left, or cannot be reached from here"
    )
    try:
        found = ray.get(versions, timeout=0.1)
    except GetTimeoutError:
        return _Answer({}, late, late=True)
    except (RayError, ImportError) as error:  # ImportError: it lacks this program
        last = last_line(str(error))
        if isinstance(error, RayActorError) and not error.actor_init_failed:
            return _Answer(
                {},
                "a process there was ended before it ran, as where it or the head cannot call "
                f"this machine: {_PORTS} ({last})",
            )
        return _Answer({}, f"a process there failed as it started: {last}")
    try:
        ray.get(call, timeout=0.1)
    except RayTaskError:  # its GetTimeoutError: it did not reach the driver
        return _Answer(found, f"its processes cannot call this machine: {_PORTS}")
    except RayError:
        return _Answer(found, late, late=True)
    return _Answer(found)


def _facts(node: dict[str, Any], answer: _Answer) -> NodeFacts:
    resources = node["Resources"]
    return NodeFacts(
        name=str(node["NodeManagerAddress"]),
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        object_store_bytes=float(resources.get("object_store_memory", 0)),
        versions=answer.versions,
        problem=answer.problem,
    )
