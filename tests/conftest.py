"""Environment and fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# This has to happen before torch is imported. Test processes run side by side, and if each had
# several threads, these would wait for each other on the same cores. Trials set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from trainable.features.store import FOLDER_VARIABLE

pytest_plugins = ["tests.scheduling"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A feature store for this test run alone, also for processes that it starts."""
    before = os.environ.get(FOLDER_VARIABLE)
    folder = tmp_path_factory.mktemp("cache")
    os.environ[FOLDER_VARIABLE] = str(folder)
    yield folder
    if before is None:
        del os.environ[FOLDER_VARIABLE]
    else:
        os.environ[FOLDER_VARIABLE] = before
