"""Rows on disk: reading, sharing between processes, damage and eviction."""

import contextlib
import errno
import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pytest

from trainable.errors import CacheError
from trainable.features.store import Collection, FeatureStore, default_folder
from trainable.features.store import collection as module

KEY = {"boundary": "relu", "weights": "abc"}
SHAPE = (4, 3)
Positions = npt.NDArray[np.int64]


def ids_of(*numbers: int) -> npt.NDArray[np.uint8]:
    ids = np.zeros((len(numbers), 32), dtype=np.uint8)
    ids[:, 5] = numbers
    return ids


def row(number: int) -> npt.NDArray[np.float32]:
    return np.full(SHAPE, number, dtype=np.float32)


def opened(folder: Path, **options: Any) -> Collection:
    return FeatureStore(folder, **options).collection(KEY, shape=SHAPE, dtype=np.float32)


class Computer:
    """Computes rows, two at a time, and remembers their numbers."""

    def __init__(self, ids: npt.NDArray[np.uint8]) -> None:
        self.ids = ids
        self.asked: list[int] = []

    def __call__(self, positions: Positions) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(positions), 2):
            numbers = self.ids[positions[start : start + 2], 5].tolist()
            self.asked += numbers
            yield np.stack([row(number) for number in numbers])


def named(store: FeatureStore, name: str) -> Collection:
    return store.collection({"name": name}, shape=SHAPE, dtype=np.float32)


def fetch(
    collection: Collection, *numbers: int, patience_s: float = 5.0
) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Fetch rows by number; return them, and the numbers that were computed."""
    computer = Computer(ids_of(*numbers))
    rows, count = collection.fetch(computer.ids, computer, patience_s=lambda _: patience_s)
    assert count == len(computer.asked)
    return rows, computer.asked


def row_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.rows"))


def test_rows_are_computed_once_and_come_in_the_order_asked(tmp_path: Path) -> None:
    collection = opened(tmp_path)
    rows, computed = fetch(collection, 3, 1, 2, 1)
    assert computed == [3, 1, 2]
    assert rows[:, 0, 0].tolist() == [3, 1, 2, 1]
    rows, computed = fetch(collection, 2, 5, 3)
    assert computed == [5]
    assert rows[:, 0, 0].tolist() == [2, 5, 3]
    assert fetch(opened(tmp_path), 1, 2, 3, 5)[1] == []  # a second store reads from disk
    assert collection.holds(ids_of(1, 4, 5)).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("key", "shape", "dtype"),
    [
        ({**KEY, "boundary": "conv"}, SHAPE, np.float32),
        ({**KEY, "more": 1}, SHAPE, np.float32),
        (KEY, (3, 4), np.float32),
        (KEY, SHAPE, np.float16),
    ],
)
def test_different_keys_are_different_collections(
    tmp_path: Path, key: dict[str, Any], shape: tuple[int, ...], dtype: type
) -> None:
    store = FeatureStore(tmp_path)
    fetch(store.collection(KEY, shape=SHAPE, dtype=np.float32), 1)
    assert not store.collection(key, shape=shape, dtype=dtype).holds(ids_of(1)).any()
    assert store.collection(dict(reversed(KEY.items())), shape=SHAPE, dtype=np.float32).holds(
        ids_of(1)
    )


def test_many_rows_become_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES", 10 * row(0).nbytes)
    fetch(opened(tmp_path), *range(25))
    assert len(row_files(tmp_path)) == 3
    assert fetch(opened(tmp_path), *range(25))[1] == []


@pytest.mark.parametrize("damage", ["row", "id", "checksum", "short", "long", "empty", "magic"])
def test_a_damaged_file_is_noticed_and_its_rows_computed_again(tmp_path: Path, damage: str) -> None:
    fetch(opened(tmp_path), 1, 2)
    (path,) = row_files(tmp_path)
    content = bytearray(path.read_bytes())
    place = {"row": -1, "id": 16 + 5, "checksum": 16 + 64, "magic": 0}.get(damage)
    if place is not None:
        content[place] ^= 1
    others = {"short": content[:-1], "long": content + b"x", "empty": bytearray()}
    path.write_bytes(others.get(damage, content))
    rows, computed = fetch(opened(tmp_path), 1, 2)
    assert computed == ([2] if damage == "row" else [1, 2])[-len(computed) :]
    assert 2 in computed
    assert rows[:, 0, 0].tolist() == [1, 2]
    assert path not in row_files(tmp_path)
    assert fetch(opened(tmp_path), 2)[1] == []


def test_mapped_rows_stay_valid_after_the_store_is_cleared(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    collection = store.collection(KEY, shape=SHAPE, dtype=np.float32)
    fetch(collection, 1)
    rows, _ = collection.read(ids_of(1))
    assert store.clear() > 0
    assert (rows == 1).all()
    assert store.info().files == 0
    assert fetch(collection, 1)[1] == [1]


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    size = 16 * (row(0).nbytes + 36) + 100
    store = FeatureStore(tmp_path, max_bytes=5 * size)
    collections = {name: named(store, name) for name in "abcdef"}
    for age, name in enumerate("abcde"):
        fetch(collections[name], *range(16))
        for path in row_files(tmp_path):
            if path.stat().st_mtime > time.time() - 50:
                os.utime(path, (0, 1000 + age))
    assert store.info().files == 5
    fresh = FeatureStore(tmp_path, max_bytes=5 * size)
    fetch(named(fresh, "a"), 1)  # makes it the most recently used
    fetch(collections["f"], *range(16))
    left = {name for name in "abcdef" if named(FeatureStore(tmp_path), name).holds(ids_of(1)).all()}
    assert "b" not in left
    assert {"a", "f"} <= left
    assert store.info().bytes <= 5 * size


def test_more_than_a_quarter_of_the_store_is_not_stored(tmp_path: Path) -> None:
    collection = opened(tmp_path, max_bytes=row(0).nbytes * 8)
    assert fetch(collection, 1, 2, 3, 4)[1] == [1, 2, 3, 4]
    assert fetch(collection, 1)[1] == [1]


def test_a_full_disk_gives_one_warning_and_loses_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: IO[bytes], *args: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FeatureStore(tmp_path)
    collection = store.collection(KEY, shape=SHAPE, dtype=np.float32)
    monkeypatch.setattr(module, "write_rows", full)
    assert (fetch(collection, 1, 2)[0][:, 0, 0] == [1, 2]).all()
    assert store.warning is not None
    assert "No space left on device" in store.warning
    assert str(tmp_path) in store.warning
    monkeypatch.undo()
    assert fetch(collection, 1)[1] == [1]  # the sweep continues without the store
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".rows", ".tmp")]


def hold_lock(folder: Path, ready: Any, release: Any, *, finish: bool) -> None:
    """In another process: hold the lock, then store row 7 or not."""
    collection = opened(folder)
    with collection._turn(0.0):
        ready.set()
        release.wait(30)
        if finish:
            collection.add(ids_of(7), row(7)[None])


@contextlib.contextmanager
def holder(folder: Path, *, finish: bool) -> Iterator[tuple[Any, Any]]:
    """Another process that holds the lock, and the event that makes it continue."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(
        target=hold_lock, args=(folder, ready, release), kwargs={"finish": finish}
    )
    other.start()
    try:
        assert ready.wait(30)
        yield other, release
    finally:  # `release.set()` would wait for a process that may be dead
        other.kill()
        other.join(30)


@pytest.mark.parametrize("finish", [True, False])
def test_a_process_waits_while_another_computes(tmp_path: Path, finish: bool) -> None:
    with holder(tmp_path, finish=finish) as (other, release):
        threading.Timer(0.3, release.set).start()
        rows, computed = fetch(opened(tmp_path), 7, patience_s=30.0)
        assert computed == ([] if finish else [7])
        assert (rows == 7).all()
        other.join(30)
        assert other.exitcode == 0


def test_a_waiting_process_sends_heartbeats(tmp_path: Path) -> None:
    heartbeats: list[None] = []
    with holder(tmp_path, finish=True) as (_, release):

        def heartbeat() -> None:
            heartbeats.append(None)
            if len(heartbeats) == 3:
                release.set()

        computer = Computer(ids_of(7))
        opened(tmp_path).fetch(
            computer.ids, computer, patience_s=lambda _: 30.0, heartbeat=heartbeat
        )
    assert len(heartbeats) >= 3


def test_waiting_takes_no_longer_than_computing_and_death_frees_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path, finish=False) as (other, _):
        assert fetch(opened(tmp_path), 7, patience_s=0.05)[1] == [7]  # the lock is held
        other.kill()
        other.join(30)
        waited: list[float] = []

        def patience(count: int) -> float:
            waited.append(count)
            return 30.0

        computer = Computer(ids_of(8))
        opened(tmp_path).fetch(computer.ids, computer, patience_s=patience)
        assert computer.asked == [8]
        assert waited == [1]


def test_files_of_a_writer_that_died_are_not_read(tmp_path: Path) -> None:
    collection = opened(tmp_path)
    fetch(collection, 1)
    (path,) = row_files(tmp_path)
    half = path.with_suffix(".tmp")
    half.write_bytes(path.read_bytes()[:-5])
    assert fetch(opened(tmp_path), 1, 2)[1] == [2]
    os.utime(half, (0, 0))
    FeatureStore(tmp_path).info()
    assert not half.exists()


def test_only_the_user_can_read_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    FeatureStore(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    fetch(opened(folder), 1)
    assert all(
        stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        for path in folder.rglob("*")
        if path.is_dir()
    )


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_variable_to_set(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot be used as a cache: .*SFT_SWEEP_CACHE"):
        FeatureStore(tmp_path / "file")


def test_environment_variables_name_the_folder_and_bound_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_SWEEP_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("SFT_SWEEP_CACHE_GIB", "0.5")
    info = FeatureStore().info()
    assert info.folder == tmp_path / "here"
    assert info.max_bytes == 2**29
    monkeypatch.setenv("SFT_SWEEP_CACHE_GIB", "much")
    with pytest.raises(CacheError, match="SFT_SWEEP_CACHE_GIB: got 'much'"):
        FeatureStore()
    monkeypatch.delenv("SFT_SWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "sft-sweep"


def test_without_a_home_the_variable_of_the_folder_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SFT_SWEEP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(CacheError, match=r"no folder for the cache: .*; set SFT_SWEEP_CACHE"):
        FeatureStore()
