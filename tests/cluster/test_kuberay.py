"""The manifests for Kubernetes: valid, and meaning what their README says."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.files import CLUSTER, ROOT, documents, every, pinned
from tests.cluster.schemas import problems

MANIFESTS = sorted((CLUSTER / "kuberay").glob("*.yaml"))
DOCUMENTS = [document for path in MANIFESTS for document in documents(path)]
NAMES = [f"{document['kind']}-{document['metadata']['name']}" for document in DOCUMENTS]

FREE_NAMES = {"labels", "matchLabels", "rayStartParams", "requests", "limits"}
"""Fields whose keys are the user's own."""

Place = tuple[str | int, ...]


def find(kind: str) -> dict[str, Any]:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


def pods() -> list[dict[str, Any]]:
    """All pod templates."""
    cluster, job = find("RayCluster")["spec"], find("RayJob")["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [*(group["template"] for group in groups), job["submitterPodTemplate"]]


def places(value: object, path: Place = ()) -> Iterator[Place]:
    """The paths of all keys and items below a value."""
    inner: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        inner = iter(value.items())
    elif isinstance(value, list):
        inner = iter(enumerate(value))
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def inside(document: dict[str, Any], path: Place) -> Any:
    value: Any = document
    for key in path:
        value = value[key]
    return value


def test_all_that_a_cluster_needs_is_there() -> None:
    assert {document["kind"] for document in DOCUMENTS} == {
        "RayCluster",
        "RayJob",
        "NetworkPolicy",
        "PersistentVolumeClaim",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    assert problems(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_misspelt_field_is_found(document: dict[str, Any]) -> None:
    tried = 0
    for path in places(document):
        *parent, key = path
        if isinstance(key, int) or (parent and parent[-1] in FREE_NAMES):
            continue
        wrong = copy.deepcopy(document)
        fields = inside(wrong, tuple(parent))
        fields[f"{key}x"] = fields.pop(key)
        assert problems(wrong), f"{'.'.join(map(str, path))}x"
        tried += 1
    assert tried > 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_value_of_a_wrong_type_is_found(document: dict[str, Any]) -> None:
    for path in places(document):
        *parent, key = path
        wrong = copy.deepcopy(document)
        value = inside(wrong, path)
        inside(wrong, tuple(parent))[key] = "text" if isinstance(value, dict | list) else [value]
        assert problems(wrong), ".".join(map(str, path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("authOptions", "mode"), "tokens"),
        (("autoscalerOptions", "version"), "v3"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("workerGroupSpecs", 0, "maxReplicas"), "8"),
        (("workerGroupSpecs", 0, "template", "spec", "containers", 0, "name"), 1),
        (
            ("headGroupSpec", "template", "spec", "containers", 0, "resources", "limits", "memory"),
            "8 GB",
        ),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_a_value_that_is_not_allowed_is_found(path: Place, value: object) -> None:
    wrong = copy.deepcopy(find("RayCluster"))
    inside(wrong["spec"], path[:-1])[path[-1]] = value
    assert problems(wrong)


@pytest.mark.parametrize("path", [("headGroupSpec",), ("workerGroupSpecs", 0, "groupName")])
def test_a_missing_field_is_found(path: Place) -> None:
    wrong = copy.deepcopy(find("RayCluster"))
    del inside(wrong["spec"], path[:-1])[path[-1]]
    assert problems(wrong)


def test_the_job_runs_on_the_same_cluster() -> None:
    assert find("RayJob")["spec"]["rayClusterSpec"] == find("RayCluster")["spec"]


def test_the_cluster_runs_the_version_of_ray_that_was_tried() -> None:
    assert find("RayCluster")["spec"]["rayVersion"] == pinned("ray")


def test_every_pod_runs_the_image_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(every(DOCUMENTS, "image")) == {f"{project['name']}:{project['version']}"}


def test_nobody_runs_code_without_the_token() -> None:
    assert find("RayCluster")["spec"]["authOptions"] == {"mode": "token"}


def test_no_manifest_holds_a_secret() -> None:
    names = [variable["name"] for env in every(DOCUMENTS, "env") for variable in env]
    assert names
    assert not [name for name in names if "TOKEN" in name or "SECRET" in name or "KEY" in name]


def test_the_head_runs_no_trial() -> None:
    parameters = find("RayCluster")["spec"]["headGroupSpec"]["rayStartParams"]
    assert parameters == {"num-cpus": "0", "num-gpus": "0"}


def test_a_worker_is_there_when_a_sweep_counts_what_fits() -> None:
    groups = find("RayCluster")["spec"]["workerGroupSpecs"]
    assert any(group["minReplicas"] >= 1 for group in groups)
    assert all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups
    )
    assert find("RayCluster")["spec"]["enableInTreeAutoscaling"] is True


def test_nodes_that_may_be_taken_away_are_for_workers_alone() -> None:
    spec = find("RayCluster")["spec"]
    terms = "requiredDuringSchedulingIgnoredDuringExecution"
    head = spec["headGroupSpec"]["template"]["spec"]
    (term,) = head["affinity"]["nodeAffinity"][terms]["nodeSelectorTerms"]
    assert "tolerations" not in head
    assert {rule["operator"] for rule in term["matchExpressions"]} == {"NotIn"}
    for group in spec["workerGroupSpecs"]:
        affinity = group["template"]["spec"]["affinity"]["nodeAffinity"]
        wished = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        rules = [rule for wish in wished for rule in wish["preference"]["matchExpressions"]]
        assert {rule["operator"] for rule in rules} == {"In"}
        assert [rule["key"] for rule in rules] == [rule["key"] for rule in term["matchExpressions"]]


def test_no_container_is_privileged() -> None:
    for pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [container for pod in pods() for container in pod["spec"]["containers"]]
    sidecar = find("RayCluster")["spec"]["autoscalerOptions"]
    for container in [*containers, sidecar]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_only_the_head_may_ask_kubernetes() -> None:
    head, *others = pods()
    assert "automountServiceAccountToken" not in head["spec"]
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in others)


def test_results_lie_on_the_claim_and_only_the_head_writes_them() -> None:
    head, *others = pods()
    claim = find("PersistentVolumeClaim")["metadata"]["name"]
    assert list(every(head, "claimName")) == [claim]
    assert list(every(head, "mountPath")) == ["/results"]
    assert list(every(others, "claimName")) == []


def test_network_policies_hold_for_every_pod() -> None:
    nodes, head = [document for document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    assert nodes["spec"]["podSelector"]["matchLabels"].items() <= {"app": "sft-sweep"}.items()
    assert all(pod["metadata"]["labels"] == {"app": "sft-sweep"} for pod in pods())
    assert head["spec"]["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in (nodes, head))
    (ingress,) = nodes["spec"]["ingress"]
    assert ingress["from"] == [{"podSelector": {"matchLabels": {"app": "sft-sweep"}}}]


def test_a_job_is_tried_again_and_its_cluster_goes_with_it() -> None:
    job = find("RayJob")["spec"]
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"] is True  # ttlSecondsAfterFinished works with it alone
    assert job["ttlSecondsAfterFinished"] > 0


def test_what_a_job_runs_is_in_the_image() -> None:
    script, space, folder = find("RayJob")["spec"]["entrypoint"].split()
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert f"COPY cluster/kuberay/{script} /usr/local/bin/" in dockerfile
    assert os.access(CLUSTER / "kuberay" / script, os.X_OK)
    assert "COPY search_spaces /app/search_spaces" in dockerfile
    assert (ROOT / space.removeprefix("/app/")).is_file()
    assert folder.startswith("/results/")
