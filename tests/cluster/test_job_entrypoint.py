"""What a job on Kubernetes runs: the first attempt launches, later ones go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER

Attempt = Callable[[int], tuple[int, list[str]]]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Runs the entrypoint with a stand-in for sft-sweep; its exit code, and what it called."""
    tool = tmp_path / "bin" / "sft-sweep"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexit "$CODE"\n')
    tool.chmod(0o755)

    def run(code: int) -> tuple[int, list[str]]:
        done = subprocess.run(
            [CLUSTER / "kuberay" / "launch-or-resume.sh", "space.yaml", "results"],
            cwd=tmp_path,
            env={"PATH": f"{tool.parent}:{os.environ['PATH']}", "CODE": str(code)},
            check=False,
        )
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


def test_the_first_attempt_launches(attempt: Attempt) -> None:
    assert attempt(0) == (0, ["launch space.yaml --out results --address auto"])


def test_a_later_attempt_resumes(attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "results" / "lowdata-1").mkdir(parents=True)
    (tmp_path / "results" / "lowdata-1" / "manifest.json").touch()
    assert attempt(0) == (0, ["resume results/lowdata-1 --address auto"])


@pytest.mark.parametrize(("code", "told"), [(0, 0), (3, 0), (1, 1), (4, 4), (143, 143)])
def test_only_what_another_attempt_could_better_counts_as_failed(
    attempt: Attempt, code: int, told: int
) -> None:
    assert attempt(code)[0] == told
