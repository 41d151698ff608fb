"""Sweeps as jobs: the command, the dependencies, and invalid addresses."""

from __future__ import annotations

import shlex
import socket
import time
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator.errors import StorageError, UsageError
from orchestrator.running.ray_tune.jobs import (
    Jobs,
    dependencies,
    entrypoint_of,
    new_job_id,
    program,
)


def test_the_command_of_a_job_survives_the_shell() -> None:
    text = entrypoint_of(["launch", "space.yaml", "--set", "name=it's; rm -rf /", "--out", "/a b"])
    assert shlex.split(text) == [
        *("exec", "sft-sweep", "launch", "space.yaml", "--set", "name=it's; rm -rf /"),
        *("--out", "/a b", "--address", "auto"),
    ]


def test_code_that_is_sent_is_run_without_being_installed() -> None:
    words = shlex.split(entrypoint_of(["resume", "/runs/a"], ship_code=True))
    assert words[:3] == ["exec", "python", "-c"]
    compile(words[3], "entrypoint", "exec")
    assert words[4:] == ["resume", "/runs/a", "--address", "auto"]


def test_a_program_that_is_sent_knows_its_version_where_it_is_not_installed(tmp_path: Path) -> None:
    about, *packages = program(tmp_path)
    assert [package.name for package in packages] == ["orchestrator", "trainable"]
    (sent,) = metadata.distributions(name="sft-sweep", path=[str(about.parent)])
    assert sent.version == metadata.version("sft-sweep")
    assert sent.requires == metadata.requires("sft-sweep")


def test_dependencies_are_pinned_to_installed_versions_without_ray() -> None:
    names = {Requirement(text).name for text in dependencies()}
    assert {"torch", "optuna", "pyarrow", "typer"} <= names
    assert {"pandas", "requests", "fsspec"} <= names  # requirements of ray[tune]
    assert "ray" not in names
    assert "pytest" not in names
    assert all("+" not in text and "==" in text for text in dependencies())


def test_no_two_jobs_have_the_same_name() -> None:
    assert new_job_id("pets") != new_job_id("pets")
    assert new_job_id("pets").startswith("pets-")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:8265", "auto", "ray://10.0.0.1:10001", "http://", "http://10.0.0.1:dashboard"],
)
def test_an_address_that_takes_no_jobs_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"such as http://10\.0\.0\.1:8265"):
        Jobs(address)


def test_an_address_that_does_not_answer_is_an_error_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(StorageError, match="nothing answers there"):
            Jobs(address)


class Unreachable(Jobs):
    """Jobs of a cluster that does not answer any more."""

    def __init__(self) -> None:
        self._address = "http://10.0.0.1:8265"

    def state(self, job_id: str) -> None:  # type: ignore[override]
        raise StorageError("no answer")


def test_following_a_cluster_that_has_gone_ends_with_the_command_to_follow_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    again = "sft-sweep logs pets-1 --address http://10.0.0.1:8265 --follow"
    with pytest.raises(StorageError, match=f"The job goes on; follow it again with: {again}"):
        list(Unreachable().follow("pets-1", lost_s=30))
    assert 30 <= now[0] <= 32
