from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.reading.export.folder import check_target, whole_folder


@pytest.mark.parametrize("there", [False, True])
def test_all_is_there_in_the_end_and_nothing_before(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "model"
    if there:
        out.mkdir()
    check_target(out)
    with whole_folder(out) as part:
        (part / "a").write_text("1")
        assert not (out / "a").exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), SystemExit(143)])
def test_nothing_is_left_of_what_failed(tmp_path: Path, there: bool, error: BaseException) -> None:
    out = tmp_path / "model"
    if there:
        out.mkdir()
    with pytest.raises(type(error)), whole_folder(out) as part:  # noqa: PT012
        (part / "a").write_text("1")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if there else [])
    assert not there or not any(out.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(StorageError, match=r"model: cannot be written: No space left on device"),
        whole_folder(tmp_path / "model"),
    ):
        raise full
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_in_it_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not empty; name a new folder, or empty it first"):
        check_target(tmp_path)
    with pytest.raises(UsageError, match="file: is no folder; name a new one"):
        check_target(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
