"""Sweeps that are sent to a cluster, followed from outside, left alone, and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator.recording.tables import read_table
from tests.integration.conftest import TIMEOUT_S, command
from tests.integration.faults.clusters import Head, head
from tests.integration.faults.sweeps import settled
from tests.orchestrator.datasets.conftest import encoded, scans, write

pytestmark = pytest.mark.slow

SPACE = {
    "name": "own",
    "dataset": {"source": "folder", "path": "photos", "test": 0.3},
    "search": {"backbone": "tiny_strokes", "label_budget": [2]},
    "training": {"steps": 60, "reports": 3},
    "trials": 4,
    "finalists": {"count": 1, "repeats": 2},
    "baselines": [],
    "resources": {"max_concurrent": 1},
}
LONG = ("--set", "training={steps: 200, reports: 4}", "--set", "trials=60")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head("--num-cpus=2") as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a search space and the images beside it."""
    folder = tmp_path / "home"
    target = scans()[1]
    for label in range(3):
        for row in np.flatnonzero(target == label)[:20]:
            write(folder / "photos" / str(label) / f"{row}.png", encoded(int(row)))
    (folder / "own.yaml").write_text(yaml.safe_dump(SPACE))
    return folder


def sft_sweep(
    cluster: Head, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, "--address", cluster.dashboard),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=cwd,
        env={**os.environ, **cluster.env, **(env or {})},
    )


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_sweep_that_is_sent_takes_what_lies_beside_it_along_and_is_followed_to_its_end(
    cluster: Head, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    done = sft_sweep(
        cluster,
        *("submit", "own.yaml", "--out", str(out), "--set", "trials=3", "--follow"),
        cwd=home,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "sft-sweep stop own-" in done.stderr
    assert "INFO" not in done.stderr  # Ray's own words of what it sends
    assert "Report: " in done.stdout
    (path,) = out.iterdir()
    rows = read_table(path, "trials").to_pylist()
    assert [row["state"] for row in rows] == ["complete"] * 3
    token = Path(cluster.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert token not in done.stdout + done.stderr
    told = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
    assert not any(token.encode() in text for text in told)


def test_a_sweep_outlives_whoever_follows_it_and_stops_cleanly_when_it_is_told_to(
    cluster: Head, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    sent = subprocess.Popen(
        command(
            *("submit", "own.yaml", "--out", str(out), "--follow", "--json", *LONG),
            *("--address", cluster.dashboard),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=home,
        env={**os.environ, **cluster.env},
    )
    assert sent.stdout is not None
    job = json.loads(sent.stdout.readline())["job_id"]
    wait_until(lambda: any(settled(path) >= 1 for path in sweeps(out)))
    sent.kill()
    sent.communicate()
    (path,) = out.iterdir()
    before = settled(path)
    wait_until(lambda: settled(path) > before)
    stopped = sft_sweep(cluster, "stop", job, cwd=home)
    assert stopped.returncode == 0, stopped.stderr
    assert f"sft-sweep resume {path}" in stopped.stderr
    assert f"{job}: STOPPED" in stopped.stdout
    assert f"sft-sweep submit --resume {path} --address {cluster.dashboard}" in stopped.stdout
    assert len(read_table(path, "trials")) == settled(path)
    again = sft_sweep(cluster, "logs", job, cwd=home)
    assert f"sft-sweep resume {path}" in again.stdout
    unknown = sft_sweep(cluster, "logs", f"{job}x", cwd=home)
    assert unknown.returncode == 2
    assert "has no job of this name" in unknown.stderr


def sweeps(out: Path) -> list[Path]:
    return [path for path in out.glob("*") if (path / "journal.log").is_file()]


def test_a_wrong_token_and_a_wrong_file_send_nothing(
    cluster: Head, home: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("ab" * 32)
    wrong.chmod(0o600)
    sending = ("submit", "own.yaml", "--out", str(tmp_path / "runs"))
    refused = sft_sweep(cluster, *sending, cwd=home, env={"RAY_AUTH_TOKEN_PATH": str(wrong)})
    assert refused.returncode == 4
    assert "holds no token that the cluster takes" in refused.stderr
    assert wrong.read_text() not in refused.stderr
    mistaken = sft_sweep(cluster, *sending, "--set", "search.lr=[]", cwd=home)
    assert mistaken.returncode == 2
    assert "search.lr" in mistaken.stderr
    assert not (tmp_path / "runs").exists()
