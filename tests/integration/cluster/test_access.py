"""Clusters that ask for a token, clusters that do not, and users with and without one."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from orchestrator.recording.tables import read_table
from tests.integration.conftest import LOWDATA, TIMEOUT_S, command
from tests.integration.faults.clusters import (
    Head,
    can_make_namespaces,
    free_port,
    head,
    machines,
)
from tests.integration.faults.sweeps import OVERRIDES, results

SMALL = (*OVERRIDES, "search.label_budget=[2]", "trials=1")
TOKEN, OTHER = secrets.token_hex(32), secrets.token_hex(32)
EMPTY_CLUSTER = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
for _ in range(2):
    cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
input()
"""


def as_user(home: Path, *, token: str | None = None, **env: str) -> dict[str, str]:
    """The environment of a user with a home of their own, with or without a token in it."""
    (home / ".ray").mkdir(parents=True, exist_ok=True)
    file = home / ".ray" / "auth_token"
    file.unlink(missing_ok=True)
    if token is not None:
        file.write_text(token)
        file.chmod(0o600)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**clean, "HOME": str(home), **env}


def launch(address: str, out: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = [part for override in SMALL for part in ("--set", override)]
    return subprocess.run(
        command("launch", str(LOWDATA), "--out", str(out), "--address", address, *given),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=env,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sweep comes to on this machine alone."""
    folder = tmp_path_factory.mktemp("alone")
    done = launch("local", folder / "runs", as_user(folder / "home"))
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "runs").iterdir()
    return path


@contextlib.contextmanager
def cluster_of(kind: str, *options: str) -> Iterator[tuple[Head, str]]:
    """A head that is `open` or asks for a token, and the address of its server for clients."""
    port = free_port()
    env = {"RAY_AUTH_MODE": "disabled"} if kind == "open" else {}
    with head(
        *("--num-cpus=1", f"--ray-client-server-port={port}", *options),
        env=env,
        token={"token": TOKEN, "open": TOKEN, "another token": OTHER}[kind],
    ) as found:
        yield found, f"ray://127.0.0.1:{port}"


USERS = {
    "token": {"token": TOKEN},
    "none": {},
    "RAY_AUTH_MODE=disabled": {"token": TOKEN, "RAY_AUTH_MODE": "disabled"},
    "RAY_AUTH_MODE=token": {"token": TOKEN, "RAY_AUTH_MODE": "token"},
}
REFUSALS = {
    ("token", "none"): "holds no token that the cluster takes",
    ("token", "RAY_AUTH_MODE=disabled"): "unset RAY_AUTH_MODE",
    ("open", "RAY_AUTH_MODE=token"): "Unset RAY_AUTH_MODE",
    ("another token", "token"): "holds no token that the cluster takes",
    ("another token", "none"): "holds no token that the cluster takes",
    ("another token", "RAY_AUTH_MODE=disabled"): "unset RAY_AUTH_MODE",
    ("another token", "RAY_AUTH_MODE=token"): "holds no token that the cluster takes",
}


def expect(
    kind: str, user: str, address: str, env: dict[str, str], *, out: Path, alone: Path
) -> None:
    """The same rows as on this machine alone, or exit code 4 and what to do about it."""
    start = time.monotonic()
    done = launch(address, out, env)
    advice = REFUSALS.get((kind, user))
    told = (kind, user, address, f"{time.monotonic() - start:.1f} s", done.stderr)
    print(told[:4], done.returncode)
    if advice is not None:
        assert done.returncode == 4, told
        assert advice in done.stderr, told
        assert not out.exists(), told
        return
    assert done.returncode == 0, told
    assert ("this cluster is open" in done.stderr) == (kind == "open"), told
    (path,) = out.iterdir()
    assert results(path) == results(alone)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "open", "another token"])
def test_a_sweep_speaks_the_mode_of_its_cluster_or_says_what_to_do(
    kind: str, tmp_path: Path, alone: Path
) -> None:
    pytest.importorskip("grpc", reason="Ray's client needs it: pip install 'sft-sweep[cluster]'")
    with cluster_of(kind, "--include-dashboard=false") as (found, client):
        addresses = {"host and port": found.address, "auto": "auto", "client": client}
        for user, given in USERS.items():
            for way, address in addresses.items():
                env = as_user(tmp_path / "home", **given)
                if way == "auto":
                    env["RAY_ADDRESS"] = found.address
                out = tmp_path / f"{user}-{way}"
                expect(kind, user, address, env, out=out, alone=alone)


@pytest.mark.faults
def test_a_user_with_a_token_runs_a_sweep_on_an_open_cluster_of_several_nodes(
    tmp_path: Path, alone: Path
) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", EMPTY_CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=as_user(tmp_path / "other", RAY_AUTH_MODE="disabled"),
    )
    try:
        assert started.stdout is not None
        address = started.stdout.readline().strip()
        out = tmp_path / "runs"
        env = as_user(tmp_path / "home", token=TOKEN)
        expect("open", "token", address, env, out=out, alone=alone)
    finally:
        started.communicate("\n", timeout=60)


@pytest.mark.slow
def test_a_sweep_is_sent_to_an_open_cluster(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    given = [part for override in SMALL for part in ("--set", override)]
    with cluster_of("open") as (found, _):
        done = subprocess.run(
            command(
                *("submit", str(LOWDATA), "--out", str(out), "--follow", *given),
                *("--address", found.dashboard),
            ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=as_user(tmp_path / "home", token=TOKEN),
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "this cluster is open" in done.stderr
    (path,) = out.iterdir()
    assert [row["state"] for row in read_table(path, "trials").to_pylist()] == ["complete"] * 2


@pytest.mark.slow
@pytest.mark.skipif(not can_make_namespaces(), reason="this user may not make network namespaces")
@pytest.mark.skipif(which("iptables") is None, reason="no iptables to block ports with")
def test_nodes_that_cannot_call_back_are_named_by_doctor_and_launch(tmp_path: Path) -> None:
    with machines(nodes=2) as cluster:
        cluster.block(1, ports="10002:19999")  # of workers and drivers; the head's is another
        for arguments in (("doctor",), ("launch", str(LOWDATA), "--out", str(tmp_path))):
            done = subprocess.run(
                command(*arguments, "--address", cluster.address),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                env={**os.environ, **cluster.env},
            )
            assert done.returncode == 4, done.stderr
            lines = (done.stdout + done.stderr).splitlines()
            (told,) = (line for line in lines if "cannot call this machine" in line)
            assert f"{cluster.address.rpartition('.')[0]}.2" in told
            assert "firewall" in told
    assert not list(tmp_path.iterdir())
