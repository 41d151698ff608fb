from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from orchestrator.running.log_file import logging_to
from tests.small_disks import PAGE, small_disk

LOG = logging.getLogger("sft_sweep")


def test_messages_are_appended_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.log"
    path.write_text("before\n")
    with logging_to(path):
        LOG.info("started: %d slots", 2)
    LOG.warning("this one does not")
    before, line = path.read_text().splitlines()
    assert before == "before"
    assert line.endswith(" INFO started: 2 slots")


def test_a_full_disk_ends_nothing_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 4 * PAGE) as disk:
        path = disk / "sweep.log"
        with logging_to(path):
            LOG.info("started")
            (disk / "ballast").write_bytes(bytes(2 * PAGE))
            for _ in range(10):
                LOG.warning("x" * PAGE)
            os.truncate(disk / "ballast", 0)
            LOG.warning("there is room again")
        assert path.read_text().startswith("20")
        assert path.read_text().endswith("there is room again\n")
    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_made_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "gone" / "sweep.log"):
        LOG.warning("lost")
    assert capfd.readouterr() == ("", "")
