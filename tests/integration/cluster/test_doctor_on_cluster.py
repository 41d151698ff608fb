from __future__ import annotations

import json
import os
import subprocess

from tests.integration.conftest import TIMEOUT_S, command
from tests.integration.faults.clusters import NEEDS_MACHINES, machines

pytestmark = NEEDS_MACHINES


def test_the_doctor_asks_every_node_of_a_cluster() -> None:
    with machines(nodes=1) as cluster:
        done = subprocess.run(
            command("doctor", "--address", cluster.address, "--json"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, **cluster.env},
        )
    assert done.returncode == 0, done.stderr
    checks = {check["what"]: check for check in json.loads(done.stdout)}
    ip = cluster.address.rpartition(".")[0]
    assert checks["cluster"]["found"] == f"{cluster.address}, 2 nodes"
    assert checks["authentication"]["found"] == "asks for a token"
    assert checks["resources"]["found"].startswith("2 CPUs")
    for number in (1, 2):
        assert checks[f"versions of {ip}.{number}"]["level"] == "ok"
        assert f"object store of {ip}.{number}" in checks
