from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator.running.cluster import ClusterFacts, NodeFacts
from orchestrator.running.doctor import (
    Check,
    Level,
    MachineFacts,
    Place,
    TextFacts,
    check_cluster,
    check_machine,
)
from orchestrator.running.doctor.checks import GIB

HUB = Place(name="weights of texts", path=Path("hub"), free_bytes=9 * GIB, writable=True)
TEXTS: dict[str, tuple[Requirement, str | None]] = {
    "tokenizers": (Requirement("tokenizers>=0.22"), "0.23"),
    "transformers": (Requirement("transformers>=5.0"), "5.24.0"),
}
FINE = MachineFacts(
    python="3.11.7",
    packages={"torch": (Requirement("torch>=2.8"), "2.9.0")},
    texts=TextFacts(packages=TEXTS, hub=HUB, models=2),
    device="cpu",
    has_gpu=False,
    cpus=4,
    memory_bytes=8 * GIB,
    shared_memory_bytes=4 * GIB,
    places=(Place(name="sweeps", path=Path("runs"), free_bytes=9 * GIB, writable=True),),
    token_mode=0o600,
    token_file=Path("/home/ada/.ray/auth_token"),
    sessions=Path("/tmp"),
)
OWN = {"python": "3.11", "ray": "2.60.0", "torch": "2.9.0"}
NODE = NodeFacts(name="10.0.0.2", cpus=8, gpus=1, object_store_bytes=8.0 * GIB, versions=OWN)
CLUSTER = ClusterFacts(address="10.0.0.1:6379", openness=None, nodes=(NODE, NODE))


def unwell(checks: list[Check]) -> list[tuple[str, Level, str]]:
    """Warnings and problems among some checks."""
    return [(one.what, one.level, one.found) for one in checks if one.level is not Level.OK]


def test_a_machine_in_order_is_fine_throughout() -> None:
    assert unwell(check_machine(FINE)) == []
    told = {check.what: check.found for check in check_machine(FINE)}
    assert told["memory"] == "8.0 GiB"
    assert told["room for sweeps"] == "runs: 9.0 GiB free"


@pytest.mark.parametrize(
    ("changes", "what", "level", "advice"),
    [
        (
            {"packages": {"torch": (Requirement("torch>=2.8"), None)}},
            "torch",
            Level.PROBLEM,
            "pip install 'torch>=2.8'",
        ),
        (
            {"packages": {"torch": (Requirement("torch>=2.8"), "2.1")}},
            "torch",
            Level.WARNING,
            "2.1; tried: >=2.8",
        ),
        ({"shared_memory_bytes": 64 * 2**20}, "shared memory", Level.WARNING, "--shm-size"),
        ({"shared_memory_bytes": None}, "shared memory", Level.WARNING, "no /dev/shm"),
        ({"token_file": None}, "token", Level.PROBLEM, "set HOME to a folder"),
        (
            {"sessions": Path("/" + "x" * 60)},
            "Ray's sockets",
            Level.PROBLEM,
            "a shorter one in RAY_TMPDIR",
        ),
        ({"token_mode": 0o644}, "token", Level.WARNING, "mode 0644, others may read it; chmod 600"),
    ],
)
def test_problems_of_a_machine_are_reported_with_advice(
    changes: dict[str, object], what: str, level: Level, advice: str
) -> None:
    ((found, its_level, told),) = unwell(check_machine(replace(FINE, **changes)))  # type: ignore[arg-type]
    assert (found, its_level) == (what, level)
    assert advice in told


@pytest.mark.parametrize(
    ("free_bytes", "writable", "level", "told"),
    [
        (9 * GIB, False, Level.PROBLEM, "may not write"),
        (2**20, True, Level.PROBLEM, "make room"),
        (GIB // 2, True, Level.WARNING, "little"),
    ],
)
def test_a_folder_without_free_space_is_a_problem(
    free_bytes: int, writable: bool, level: Level, told: str
) -> None:
    place = Place(name="sweeps", path=Path("runs"), free_bytes=free_bytes, writable=writable)
    ((what, its_level, found),) = unwell(check_machine(replace(FINE, places=(place,))))
    assert (what, its_level) == ("room for sweeps", level)
    assert told in found


def without(name: str) -> dict[str, tuple[Requirement, str | None]]:
    return TEXTS | {name: (TEXTS[name][0], None)}


@pytest.mark.parametrize(
    ("texts", "level", "told"),
    [
        (TextFacts(packages=TEXTS, hub=HUB, models=2), Level.OK, "transformers 5.24.0; the hub's"),
        (
            TextFacts(packages=without("transformers"), hub=None, models=0),
            Level.OK,
            "not installed; for backbones of texts: pip install 'sft-sweep[transformers]'",
        ),
        (
            TextFacts(packages=without("tokenizers"), hub=None, models=0),
            Level.WARNING,
            "tokenizers not installed; pip install 'sft-sweep[transformers]'",
        ),
        (
            TextFacts(packages=TEXTS, hub=replace(HUB, writable=False), models=2),
            Level.WARNING,
            "hub, where this user may not write; set HF_HOME",
        ),
    ],
)
def test_what_texts_need_is_told(texts: TextFacts, level: Level, told: str) -> None:
    checks = {check.what: check for check in check_machine(replace(FINE, texts=texts))}
    assert checks["texts"].level is level
    assert told in checks["texts"].found


def test_an_old_library_of_texts_is_told() -> None:
    old = TEXTS | {"transformers": (Requirement("transformers>=5.0"), "4.57.1")}
    facts = replace(FINE, texts=TextFacts(packages=old, hub=HUB, models=0))
    ((what, level, found),) = unwell(check_machine(facts))
    assert (what, level, found) == ("transformers for texts", Level.WARNING, "4.57.1; tried: >=5.0")


def test_a_cluster_in_order_is_fine_throughout() -> None:
    checks = check_cluster(CLUSTER, own=OWN)
    assert unwell(checks) == []
    told = {check.what: check.found for check in checks}
    assert told["cluster"] == "10.0.0.1:6379, 2 nodes"
    assert told["resources"] == "16 CPUs, 2 GPUs"


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        (OWN | {"torch": "2.1"}, "torch 2.1, here 2.9.0"),
        ({}, "python is missing, here 3.11; ray is missing"),
    ],
)
def test_a_node_with_other_versions_is_a_problem(versions: dict[str, str], told: str) -> None:
    other = replace(NODE, name="10.0.0.3", versions=versions)
    ((what, level, found),) = unwell(check_cluster(replace(CLUSTER, nodes=(NODE, other)), own=OWN))
    assert (what, level) == ("versions of 10.0.0.3", Level.PROBLEM)
    assert told in found
    assert "pip install" in found


def test_a_node_whose_processes_do_not_reach_this_machine_is_a_problem() -> None:
    silent = replace(NODE, name="10.0.0.3", versions={}, problem="open its ports")
    checks = check_cluster(replace(CLUSTER, nodes=(NODE, silent)), own=OWN)
    assert unwell(checks) == [("processes of 10.0.0.3", Level.PROBLEM, "open its ports")]


def test_an_open_cluster_one_without_cpus_and_a_small_object_store_are_reported() -> None:
    weak = replace(NODE, cpus=0, object_store_bytes=1e8)
    checks = check_cluster(ClusterFacts(address="a:1", openness="open!", nodes=(weak,)), own=OWN)
    assert [(what, level) for what, level, _ in unwell(checks)] == [
        ("authentication", Level.WARNING),
        ("resources", Level.PROBLEM),
        ("object store of 10.0.0.2", Level.WARNING),
    ]
