"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainable.store import FOLDER_VARIABLE

SHARED_SWEEP = frozenset({"test_export", "test_launch", "test_report_in_browser"})
"""Files of tests that look at one launched sweep: one process launches it for them."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, so that what they share is made once."""
    for item in items:
        file = item.path.stem
        own = f"{item.path.parent.name}.{file}"
        name = "shared_sweep" if file in SHARED_SWEEP else own
        item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of features of this run's own, for this process and those it starts."""
    before = os.environ.get(FOLDER_VARIABLE)
    folder = tmp_path_factory.mktemp("cache")
    os.environ[FOLDER_VARIABLE] = str(folder)
    yield folder
    if before is None:
        del os.environ[FOLDER_VARIABLE]
    else:
        os.environ[FOLDER_VARIABLE] = before
