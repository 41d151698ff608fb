"""Real disks of a few pages: a sweep that fills one says so and goes on once there is room."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cli.main import run
from orchestrator.errors import StorageError
from orchestrator.planning.preparation import Prepared
from orchestrator.recording.sweep_directory import find_runs
from tests.builders.synthetic_sweeps import write_sweep
from tests.integration.conftest import LOWDATA
from tests.orchestrator.test_every_write_step import launch, prepared, resume, tables
from tests.small_disks import PAGE, resize, small_disk
from trainable.features.store import FeatureStore

__all__ = ["prepared"]  # the fixture

ROOM = 2**22


def test_a_sweep_that_fills_the_disk_names_the_path_and_is_resumed_to_the_same_end(
    tmp_path: Path, prepared: Prepared
) -> None:
    launch(tmp_path / "undisturbed", prepared)
    (undisturbed,) = find_runs(tmp_path / "undisturbed")
    expected = tables(undisturbed.path)
    taken = sum(file.stat().st_size // PAGE + 2 for file in undisturbed.path.iterdir())
    told = []
    for pages in range(3, taken + 8, 2):
        with small_disk(tmp_path / str(pages), pages * PAGE) as disk:
            try:
                launch(disk / "runs", prepared)
            except StorageError as error:
                told.append(str(error))
            runs = find_runs(disk / "runs")
            if runs:  # else it had not begun to be a sweep
                tables(runs[0].path)  # every file that is there can be read
                resize(disk, ROOM)
                resume(runs[0], prepared)
                assert tables(runs[0].path) == expected, pages
                assert not [file for file in runs[0].path.iterdir() if file.name[0] == "."], pages
    assert runs  # the last one had room for all of it
    assert len(told) > 5
    for message in told:
        assert re.search(r"/runs.*: (not written|cannot be written|no sweep directory)", message)
        assert "No space left on device" in message


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for files without content alone."""
    with small_disk(tmp_path / "disk", 16 * PAGE) as path:
        (path / "old.csv").write_bytes(b"old")
        with suppress(OSError), (path / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(PAGE))
        yield path


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "query": lambda sweep, disk: [
        *("query", "FROM predictions", str(sweep)),
        *("-o", str(disk / "old.csv")),
    ],
    "parquet": lambda sweep, disk: [
        *("query", "FROM predictions", str(sweep), "--parquet"),
        *("-o", str(disk / "old.csv")),
    ],
    "report": lambda sweep, disk: ["report", str(sweep), "-o", str(disk / "old.csv")],
    "data": lambda sweep, disk: [
        *("data", str(LOWDATA), "--json"),
        *("--sheet", str(disk / "old.csv")),
    ],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_finds_no_room_says_where_and_leaves_what_was_there(
    tmp_path: Path,
    full_disk: Path,
    command: Callable[[Path, Path], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = write_sweep(tmp_path / "one")
    assert run(command(sweep, full_disk)) in (2, 4)
    told = capsys.readouterr().err
    assert f"{full_disk / 'old.csv'}: cannot be written" in told
    assert "No space left on device" in told
    assert "Traceback" not in told
    assert (full_disk / "old.csv").read_bytes() == b"old"
    assert sorted(file.name for file in full_disk.iterdir()) == ["ballast", "old.csv"]


def test_a_full_disk_costs_the_feature_store_a_warning_and_no_rows(tmp_path: Path) -> None:
    ids = np.arange(32 * 40, dtype=np.uint32).view(np.uint8)[: 32 * 40].reshape(40, 32)
    rows = np.arange(40 * 1000, dtype=np.float32).reshape(40, 1000)
    with small_disk(tmp_path / "disk", 16 * PAGE) as disk:
        store = FeatureStore(disk / "cache", max_bytes=ROOM)
        collection = store.collection({"of": "test"}, shape=(1000,), dtype=np.float32)
        for _ in range(2):
            found, computed = collection.fetch(
                ids, lambda wanted: iter([rows[wanted]]), patience_s=lambda _: 0.0
            )
            assert np.array_equal(found, rows)
            assert computed == 40
        assert store.warning is not None
        assert str(disk / "cache") in store.warning
        assert "No space left on device" in store.warning
        assert not [path for path in disk.rglob("*") if path.suffix in (".rows", ".tmp")]
