"""Sweeps over texts whose driver is killed come to what one process computes without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.sweeps import sweep_in_process
from tests.builders.text_sweeps import write_home, write_space
from tests.integration.faults.sweeps import ALL_SLOTS, results, resume, settled, start

pytestmark = pytest.mark.faults


def test_two_slots_a_killed_driver_and_a_resume_change_no_number(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(write_home(tmp_path / "home"))
    space = write_space(Path())
    sweep = start(
        out, "search.backbone=[transformers:./model]", ALL_SLOTS, "checkpoint_s=0.05", space=space
    )
    sweep.wait_until(lambda path: settled(path) >= 2)
    sweep.kill()
    code, messages = resume(sweep.path)
    assert code == 0, messages
    space.write_text((sweep.path / "space.yaml").read_text())
    assert results(sweep.path) == results(sweep_in_process(space, tmp_path / "undisturbed"))
