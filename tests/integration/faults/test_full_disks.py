"""A real launch on a disk that fills up, and the resume once there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import read_table
from tests.integration.faults.conftest import Results
from tests.integration.faults.sweeps import results, resume, settled, start
from tests.small_disks import resize, small_disk

BEGUN_BYTES, ENOUGH_BYTES = 240 * 2**10, 20 * 2**20
"""Room for the first trials, whenever their tables are written (200 KiB), but not for all (310)."""


@pytest.mark.slow
def test_a_launch_that_fills_the_disk_says_so_and_is_resumed_to_the_same_end(
    tmp_path: Path, undisturbed: Results
) -> None:
    with (
        small_disk(tmp_path / "disk", BEGUN_BYTES) as disk,
        small_disk(tmp_path / "cache", 2**20) as cache,
    ):
        variables = {"SFT_SWEEP_CACHE": str(cache)}
        sweep = start(disk / "runs", env=variables)
        code, messages = sweep.end()
        assert code == 4, messages
        assert str(sweep.path) in messages
        assert "No space left on device" in messages
        assert "resume" in messages
        assert "Traceback" not in messages
        assert "Logging error" not in messages
        for name in SCHEMAS:
            read_table(sweep.path, name)
        done = settled(sweep.path)
        assert 0 < done < len(undisturbed["trials"])

        resize(disk, ENOUGH_BYTES)
        code, messages = resume(sweep.path, env=variables)
        assert code == 0, messages
        assert results(sweep.path) == undisturbed
        assert f"{cache}: features are computed again and not kept: the disk is full" in messages
        assert "Traceback" not in messages
