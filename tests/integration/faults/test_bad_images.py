"""Images that cannot be read or would burst the memory: skipped, counted, named; or too many."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from orchestrator.recording.tables import read_table
from tests.integration.conftest import command, finished
from tests.orchestrator.datasets.conftest import encoded, scans, write

pytestmark = pytest.mark.faults

SPACE = {
    "name": "own",
    "dataset": {"source": "folder", "path": "photos", "test": 0.3, "max_bad_fraction": 0.2},
    "search": {
        "backbone": "tiny_strokes",
        "lr": [0.001, 0.003],
        "label_budget": ["all"],
    },  # so that all are read
    "training": {"steps": 4, "reports": 2},
    "validation": {"folds": 2},
    "trials": 2,
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": [],
}
GOOD = 20


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 3.6 billion pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


BAD = {"torn.png": encoded(0)[:60], "empty.jpg": b"", "bomb.png": bomb()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of photos, three of which are bad, and their search space."""
    target = scans()[1]
    for label in range(2):
        for row in np.flatnonzero(target == label)[:GOOD]:
            write(tmp_path / "photos" / str(label) / f"{row}.png", encoded(int(row)))
    for name, content in BAD.items():
        write(tmp_path / "photos" / "1" / name, content)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def test_bad_images_are_skipped_counted_and_named(home: Path) -> None:
    done = finished(command("launch", "own.yaml", "--json"), cwd=home)
    assert done.returncode == 0, done.stderr
    path = home / json.loads(done.stdout)["run"]
    log = (path / "sweep.log").read_text()
    for name in BAD:
        assert f"1/{name}" in log
        assert f"1/{name}" in done.stderr
    manifest = json.loads((path / "manifest.json").read_text())
    used = manifest["images"]
    assert used["pool"]["0"] + used["test"]["0"] == GOOD
    assert used["pool"]["1"] + used["test"]["1"] == GOOD
    assert not set(BAD) & {
        Path(row).name for row in read_table(path, "predictions")["path"].to_pylist()
    }


def test_too_many_bad_images_are_an_error_that_names_them(home: Path) -> None:
    strict = ("--set", "dataset.max_bad_fraction=0.01")
    done = finished(command("launch", "own.yaml", *strict), cwd=home)
    assert done.returncode == 2
    for name in BAD:
        assert f"1/{name}" in done.stderr
    assert "max_bad_fraction" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "runs").exists()
