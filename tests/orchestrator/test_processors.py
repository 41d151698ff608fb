"""Processors that a process is bound to, or has the time of, are counted in one way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator import processors
from orchestrator.processors import usable_processors
from orchestrator.running.cluster import LOCAL
from orchestrator.running.doctor.machine import gather
from orchestrator.running.ray_tune.cluster import cluster


@pytest.fixture
def bound_to_one() -> Iterator[None]:
    """This process on one processor, as taskset and Slurm start others."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of eight processors without limits; its folder of cgroups."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path / "cgroup"


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_max", ".max").replace("_cfs", ".cfs")).write_text(f"{content}\n")


@pytest.mark.usefixtures("bound_to_one")
def test_sweep_and_doctor_count_the_processors_that_a_process_is_bound_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **options: started.update(options))
    with cluster(LOCAL):
        pass
    assert started["num_cpus"] == gather(runs=tmp_path).cpus == usable_processors() == 1


def test_without_any_limit_all_processors_count(eight: Path) -> None:
    assert usable_processors() == 8
    (eight.parent / "own").write_text("0::/\n")
    put(eight, cpu_max="max 100000")
    assert usable_processors() == 8


@pytest.mark.parametrize(
    ("quota", "count"),
    [("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 8)],
)
@pytest.mark.parametrize("folder", ["", "a", "a/b"])
def test_the_tightest_limit_of_the_cgroups_around_counts(
    quota: str, count: int, folder: str, eight: Path
) -> None:
    (eight.parent / "own").write_text("0::/a/b\n")
    put(eight / "a" / "b", cpu_max="700000 100000")
    put(eight / folder, cpu_max=quota)
    assert usable_processors() == (count if folder == "a/b" else min(count, 7))


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_limits_of_the_first_version_of_cgroups_count(name: str, eight: Path) -> None:
    (eight.parent / "own").write_text(f"4:memory:/x\n2:{name}:/pod/one\n0::/\n")
    put(eight / name / "pod", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    put(eight / name / "pod" / "one", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert usable_processors() == 3


def test_a_binding_counts_beside_a_limit(eight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (eight.parent / "own").write_text("0::/\n")
    put(eight, cpu_max="400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 5})
    assert usable_processors() == 2
