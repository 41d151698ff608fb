"""The start of a sweep: images are read while the cluster starts, and either may fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.planning.preparation import Prepared, prepare_space, read_space
from orchestrator.running import launch
from orchestrator.running.broker.broker import Seconds
from orchestrator.running.execution import Ended
from tests.builders.programs import printed_by

LOWDATA = Path(__file__).parents[3] / "search_spaces" / "lowdata.yaml"
PAUSE_S = 0.02


class Room:
    """A fake cluster that records when it is open, and which thread opened it."""

    def __init__(self, *, pause_s: float = 0.0, error: Exception | None = None) -> None:
        self.pause_s = pause_s
        self.error = error
        self.log: list[str] = []
        self.thread: threading.Thread | None = None

    @contextmanager
    def __call__(self, *_: object) -> Iterator[object]:
        """Open the fake cluster."""
        self.thread = threading.current_thread()
        time.sleep(self.pause_s)
        if self.error is not None:
            raise self.error
        self.log.append("opened")
        try:
            yield object()
        finally:
            self.log.append("closed")


def launched(
    room: Room, preparing: Callable[[], Prepared], root: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Launch with a fake cluster and without trials; return what happened, in order."""
    monkeypatch.setattr(launch, "_cluster_with_capacity", room)

    class NoExecution:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def execute(self) -> Ended:
            room.log.append("executed")
            return Ended(signal=None, seconds=Seconds())

    monkeypatch.setattr(launch, "SweepExecution", NoExecution)
    space = read_space(LOWDATA)
    with launch.launch(
        space,
        preparing=preparing,
        root=root,
        address="local",
        viewing=lambda _: nullcontext(None),  # type: ignore[arg-type]
    ) as ended:
        assert ended.signal is None
    return room.log


def failing(pause_s: float = 0.0) -> Prepared:
    time.sleep(pause_s)
    raise UsageError("photos: no such folder")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare_space(read_space(LOWDATA), path=LOWDATA)


def test_the_data_error_is_raised_if_both_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(error=StorageError("no cluster answers"))
    with pytest.raises(UsageError, match="photos: no such folder"):
        launched(room, lambda: failing(PAUSE_S), tmp_path / "runs", monkeypatch)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_a_start_does_not_depend_on_how_long_its_parts_take(
    seed: int, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    reading_s, room_s = (draw.uniform(0, PAUSE_S) for _ in range(2))

    def preparing() -> Prepared:
        time.sleep(reading_s)
        return prepared

    room = Room(pause_s=room_s)
    assert launched(room, preparing, tmp_path, monkeypatch) == ["opened", "executed", "closed"]
    assert room.thread is threading.main_thread()
    (directory,) = tmp_path.iterdir()
    assert (directory / "manifest.json").is_file()


@pytest.mark.parametrize(("reading_s", "room_s"), [(0, PAUSE_S), (PAUSE_S, 0)])
def test_unreadable_data_closes_the_cluster_and_creates_nothing(
    reading_s: float, room_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(pause_s=room_s)
    with pytest.raises(UsageError, match=r"^photos: no such folder$"):
        launched(room, lambda: failing(reading_s), tmp_path, monkeypatch)
    assert room.log == ["opened", "closed"]
    assert not list(tmp_path.iterdir())


def test_without_a_cluster_nothing_is_created(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(error=StorageError("no Ray cluster answers"))
    with pytest.raises(StorageError, match=r"^no Ray cluster answers$"):
        launched(room, lambda: prepared, tmp_path, monkeypatch)
    assert not list(tmp_path.iterdir())


def test_a_file_is_checked_before_anything_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from orchestrator.planning.preparation import read_space\n"
        "import orchestrator.running.launch, orchestrator.running.ray_tune.algorithms\n"
        f"read_space(Path({str(LOWDATA)!r}))\n"
        "print([name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    )
    assert printed_by(program) == "[]"
