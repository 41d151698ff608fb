"""A sweep on several machines comes to what it comes to on one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator.recording.tables import read_table
from tests.integration.faults.clusters import NEEDS_MACHINES, machines
from tests.integration.faults.sweeps import ALL_SLOTS, results, start
from tests.orchestrator.datasets.conftest import encoded, scans, write

pytestmark = NEEDS_MACHINES

NODES = 4


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Digits as a folder of class folders."""
    target = scans()[1]
    for label in range(3):
        for row in np.flatnonzero(target == label)[:20]:
            write(tmp_path / "photos" / str(label) / f"{row}.png", encoded(int(row)))
    return tmp_path / "photos"


def test_four_machines_that_cannot_read_the_images_come_to_the_same_rows(
    tmp_path: Path, photos: Path
) -> None:
    space = tmp_path / "own.yaml"
    dataset = {"source": "folder", "path": str(photos), "test": 0.3}
    space.write_text(
        yaml.safe_dump({"name": "own", "dataset": dataset, "search": {"label_budget": [2]}})
    )
    alone = start(tmp_path / "alone", "trials=6", space=space)
    code, messages = alone.end()
    assert code == 0, messages
    with machines(nodes=NODES, hidden=photos) as cluster:
        together = start(
            tmp_path / "together",
            "trials=6",
            ALL_SLOTS,
            space=space,
            options=("--address", cluster.address),
            env=cluster.env,
        )
        code, messages = together.end()
    assert code == 0, messages
    assert results(together.path) == results(alone.path)
    rows = read_table(together.path, "trials").to_pylist()
    assert {row["state"] for row in rows} == {"complete"}
