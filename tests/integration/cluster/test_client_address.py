"""`--address ray://host:port`, the address of Ray's client server, and machines off the cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import LOWDATA, TIMEOUT_S
from tests.integration.faults.clusters import Head, head
from tests.integration.faults.sweeps import settled, start

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Head, str]]:
    """A cluster, and the address of its client server."""
    pytest.importorskip("grpc", reason="Ray's client needs it: pip install 'sft-sweep[cluster]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--num-cpus=1", f"--ray-client-server-port={port}", "--include-dashboard=false")
    with head(*options) as found:
        yield found, f"ray://127.0.0.1:{port}"


def test_a_sweep_runs_on_the_cluster_behind_its_client_server(
    behind: tuple[Head, str], tmp_path: Path
) -> None:
    found, address = behind
    options = ("--address", address)
    sweep = start(tmp_path / "runs", "trials=1", options=options, env=found.env)
    code, messages = sweep.end()
    assert code == 0, messages
    assert settled(sweep.path) == 2


@pytest.mark.parametrize(
    ("direct", "nodes"),
    [
        pytest.param(False, "[]", id="none"),
        pytest.param(True, "['ab' * 28]", id="another cluster's"),
    ],
)
def test_a_machine_that_is_no_node_hears_how_to_send_the_sweep(
    behind: tuple[Head, str], tmp_path: Path, *, direct: bool, nodes: str
) -> None:
    found, address = behind
    elsewhere = (
        "import sys; from ray._private import services;"
        "from orchestrator.running.ray_tune import cluster;"
        f"services.find_node_ids = cluster.find_node_ids = lambda: {nodes};"
        "services.get_node_to_connect_for_driver.__defaults__ = (None, None, None, 3);"
        "cluster.CONNECT_TIMEOUT_S = 3.0;"
        "from orchestrator.cli import main; sys.exit(main())"
    )
    given = found.address if direct else address
    done = subprocess.run(
        [
            *(sys.executable, "-c", elsewhere, "launch", str(LOWDATA)),
            *("--out", str(tmp_path / "runs"), "--address", given),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **found.env},
    )
    assert done.returncode == 4, done.stderr
    advice = "sft-sweep submit SPACE --address http://127.0.0.1:8265 --out DIR"
    assert advice in done.stderr
    assert not (tmp_path / "runs").exists()
