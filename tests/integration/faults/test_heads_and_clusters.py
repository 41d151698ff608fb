"""The head of the cluster is lost, or traces of another cluster lie about."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Results
from tests.integration.faults.sweeps import (
    descendants,
    kill,
    name_of,
    results,
    resume,
    settled,
    start,
)

pytestmark = pytest.mark.slow


def test_a_sweep_whose_head_is_lost_says_so_and_is_resumed(out: Path, undisturbed: Results) -> None:
    sweep = start(out)
    sweep.wait_until(lambda path: settled(path) >= 2)
    heads = [pid for pid in descendants(sweep.process.pid) if "gcs_server" in name_of(pid)]
    assert heads
    kill(heads)
    code, messages = sweep.end(timeout_s=90)
    assert code == 4, messages
    assert "head of the Ray cluster" in messages
    assert f"sft-sweep resume {sweep.path}" in messages
    assert len(results(sweep.path)["trials"]) >= 2  # the tables are written
    code, messages = resume(sweep.path)
    assert code == 0, messages
    assert results(sweep.path) == undisturbed


def test_a_local_sweep_starts_although_a_cluster_that_is_gone_left_its_address(
    out: Path, tmp_path: Path, undisturbed: Results
) -> None:
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # paths of sockets have to be short
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        env = {"RAY_TMPDIR": folder, "RAY_ADDRESS": "127.0.0.1:1"}
        sweep = start(out, env=env)
        code, messages = sweep.end()
    assert code == 0, messages
    assert results(sweep.path) == undisturbed
