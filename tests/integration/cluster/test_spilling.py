"""A cluster whose object stores hold less than the images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.integration.faults.clusters import head
from tests.integration.faults.sweeps import results, start

pytestmark = pytest.mark.slow

STORE_BYTES = 80 * 2**20  # little more than the least that Ray takes
NUM_IMAGES, SIDE = 480, 256


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Noise of two levels of brightness, some 90 MB of it in files that do not compress."""
    noise = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 90)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for number in range(NUM_IMAGES // 2):
            pixels = noise.integers(low, low + 160, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=0)
    return tmp_path / "photos"


def test_objects_that_are_spilled_to_disk_change_no_result(tmp_path: Path, photos: Path) -> None:
    space = tmp_path / "noise.yaml"
    dataset = {"source": "folder", "path": str(photos), "test": 0.9}
    values = {"name": "noise", "dataset": dataset, "search": {"label_budget": [2, 3]}}
    space.write_text(yaml.safe_dump(values))
    overrides = ("trials=3", "training={steps: 20, reports: 2}")
    roomy = start(tmp_path / "roomy", *overrides, space=space)
    code, messages = roomy.end()
    assert code == 0, messages
    with head(
        "--num-cpus=2", f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"
    ) as tight:
        sweep = start(
            tmp_path / "tight",
            *overrides,
            space=space,
            options=("--address", tight.address),
            env=tight.env,
        )
        code, messages = sweep.end()
        assert code == 0, messages
        logs = (tight.folder / "ray" / "session_latest" / "logs").glob("raylet*.out")
        assert any(re.search(r"Spilled \d+ MiB", log.read_text()) for log in logs)
    assert results(sweep.path) == results(roomy.path)
