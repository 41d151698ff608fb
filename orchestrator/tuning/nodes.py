"""What the nodes of a cluster say of themselves."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster_facts import ClusterFacts, NodeFacts
from orchestrator.tuning.cluster import OPEN, cluster

ANSWER_S = 60.0
"""How long a node may take to answer, in seconds: a process is started there."""

PACKAGES = ("sft-sweep", "ray", "torch", "torchvision")
"""Packages that have to be the same on all machines."""


def own_versions() -> dict[str, str]:
    """Of Python and of what has to be the same everywhere, on the machine where this is called."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def ask_nodes(address: str) -> ClusterFacts:
    """Join a cluster and ask each of its nodes.

    Raises:
        StorageError: there is no cluster at that address, or it does not let us in.
    """
    with cluster(address) as is_open:
        head = ray.get_runtime_context().gcs_address
        nodes = [node for node in ray.nodes() if node["Alive"]]
        return ClusterFacts(
            address=head,
            openness=OPEN if is_open else None,
            nodes=tuple(_ask(node, versions) for node, versions in _versions_of(nodes)),
        )


def _versions_of(
    nodes: Sequence[dict[str, object]],
) -> list[tuple[dict[str, object], dict[str, str]]]:
    ask = ray.remote(own_versions)
    asked = [
        ask.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=False),
        ).remote()
        for node in nodes
    ]
    ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S)
    answers = []
    for one in asked:
        try:
            answers.append(ray.get(one, timeout=0.1))
        except (ray.exceptions.RayError, ImportError):  # without this program, for one
            answers.append({})
    return list(zip(nodes, answers, strict=True))


def _ask(node: dict[str, object], versions: dict[str, str]) -> NodeFacts:
    resources = node["Resources"]
    assert isinstance(resources, dict)
    return NodeFacts(
        name=str(node["NodeManagerAddress"]),
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        object_store_bytes=float(resources.get("object_store_memory", 0)),
        versions=versions,
    )
