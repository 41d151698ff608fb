"""Environment and fixtures of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# This has to happen before torch is imported. Test processes run side by side, and if each had
# several threads, these would wait for each other on the same cores. Trials set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from trainable.device import one_thread as computing_in_one_thread
from trainable.features.store import FOLDER_VARIABLE

pytest_plugins = ["tests.scheduling"]


def pytest_collection_finish() -> None:
    """Keep modules and tests out of the garbage collector's rounds, a tenth of all time else."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let Python free everything as usual when it ends."""
    gc.unfreeze()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute in one thread, for tests that compare bits."""
    with computing_in_one_thread():
        yield


@pytest.fixture
def few_penalties(monkeypatch: pytest.MonkeyPatch) -> tuple[float, ...]:
    """The two penalties that probes try, not six: for tests that are not about their choice."""
    penalties = (0.1, 1.0)
    monkeypatch.setattr("trainable.training.probe.INVERSE_PENALTIES", penalties)
    return penalties


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
