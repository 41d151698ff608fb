from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.sweeps import results, start

Results = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the sweep comes to that nothing happens to."""
    sweep = start(tmp_path_factory.mktemp("undisturbed") / "runs")
    code, messages = sweep.end()
    assert code == 0, messages
    return results(sweep.path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a sweep's directory is made."""
    return tmp_path / "runs"
