from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.sweeps import results, start

Results = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep that nothing happened to; copy it before you change it."""
    sweep = start(tmp_path_factory.mktemp("finished") / "runs")
    code, messages = sweep.end()
    assert code == 0, messages
    return sweep.path


@pytest.fixture(scope="session")
def undisturbed(finished: Path) -> Results:
    """What the sweep comes to that nothing happens to."""
    return results(finished)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a sweep's directory is made."""
    return tmp_path / "runs"
