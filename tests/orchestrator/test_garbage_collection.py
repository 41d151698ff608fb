"""The garbage collector pauses during imports, and resumes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from orchestrator.garbage_collection import collecting_no_garbage
from tests.builders.programs import printed_by


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    """Begin and end with a collector that is enabled."""
    gc.enable()
    yield
    gc.enable()


def test_nothing_is_collected_within_the_block_even_if_it_fails() -> None:
    def failing() -> None:
        with collecting_no_garbage():
            assert not gc.isenabled()
            raise ImportError

    with pytest.raises(ImportError):
        failing()
    assert gc.isenabled()


def test_the_collector_resumes_after_the_last_of_blocks_that_overlap() -> None:
    inside, leave = threading.Event(), threading.Event()

    def overlapping() -> None:
        with collecting_no_garbage():
            inside.set()
            leave.wait(30)

    other = threading.Thread(target=overlapping)
    with collecting_no_garbage():
        with collecting_no_garbage():
            assert not gc.isenabled()
        other.start()
        assert inside.wait(30)
    assert not gc.isenabled()
    leave.set()
    other.join(30)
    assert gc.isenabled()


def test_a_collector_that_the_caller_disabled_stays_disabled() -> None:
    gc.disable()
    with collecting_no_garbage(), collecting_no_garbage():
        pass
    assert not gc.isenabled()


def test_the_process_of_a_trial_imports_without_collections_and_collects_afterwards() -> None:
    program = (
        "import gc\n"
        "from orchestrator.running import ray_tune\n"  # imported by the way, not by its owner
        "from orchestrator.garbage_collection import collecting_no_garbage\n"
        "full = []\n"
        "gc.callbacks.append(lambda phase, info: full.append(info['generation']))\n"
        "import orchestrator.running.ray_tune.actor as actor\n"
        "print(len(full) < 50, gc.isenabled(), 'torch' in dir(actor))"
    )
    assert printed_by(program) == "True True True"
