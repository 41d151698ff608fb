from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trainable.atomic_files import (
    append,
    atomic_write,
    failpoint,
    observing_failpoints,
    sync_folder,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _out_of_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_is_there_once_all_of_it_is_written_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "about.json"
    path.write_text("old")
    with atomic_write(path, "w") as sink:
        sink.write("né\r\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == "né\r\n".encode()
    assert _names(tmp_path) == ["about.json"]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "rows", "wb") as sink:
        sink.write(b"\0\xff")
    assert (tmp_path / "rows").read_bytes() == b"\0\xff"


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt("odd")])
def test_a_failure_keeps_the_old_file_and_leaves_no_temporary_file(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "about.json"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path, "w") as sink:
            sink.write("new")
            raise error

    with pytest.raises(type(error), match="odd"):
        write()
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["about.json"]


@pytest.mark.parametrize("call", ["os.fsync", "os.ftruncate", "Path.replace"])
@pytest.mark.parametrize("old", ["old", None])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, old: str | None
) -> None:
    path = tmp_path / "about.json"
    if old is not None:
        path.write_text(old)
    monkeypatch.setattr(f"trainable.atomic_files.{call}", _out_of_space)
    if call == "os.ftruncate":  # the file then gets another temporary name
        with atomic_write(path, "w") as sink:
            sink.write("new")
        assert path.read_text() == "new"
        return
    with pytest.raises(OSError, match="No space left"), atomic_write(path, "w") as sink:
        sink.write("new")
    assert _names(tmp_path) == ([] if old is None else ["about.json"])
    assert old is None or path.read_text() == old


def test_a_check_that_fails_keeps_the_file_from_its_place(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def check(written: Path) -> None:
        seen.append(written.read_bytes())
        raise ValueError("half of it is missing")

    with (
        pytest.raises(ValueError, match="half of it"),
        atomic_write(tmp_path / "a", check=check) as sink,
    ):
        sink.write(b"content")
    assert seen == [b"content"]
    assert _names(tmp_path) == []


def test_leftovers_of_a_process_that_died_are_overwritten_and_do_not_pile_up(
    tmp_path: Path,
) -> None:
    (tmp_path / ".a.tmp").write_bytes(b"half a file that was longer")
    with atomic_write(tmp_path / "a") as sink:
        sink.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert _names(tmp_path) == ["a"]


def test_writers_of_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as first:
        first.write(b"first, and longer")
        with atomic_write(tmp_path / "a") as second:
            second.write(b"second")
        assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first, and longer"
    assert _names(tmp_path) == ["a"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * (10_000 + number) for number in range(4)]
    problems: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(50):
                with atomic_write(tmp_path / "a", durable=False) as sink:
                    sink.write(content)
                assert (tmp_path / "a").read_bytes() in contents
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert _names(tmp_path) == ["a"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "far" / "b")
    with atomic_write(tmp_path / "a") as sink:
        sink.write(b"new")
    assert (tmp_path / "far" / "b").read_bytes() == b"new"
    assert (tmp_path / "a").is_symlink()


def test_a_device_is_written_to_and_not_replaced() -> None:
    with atomic_write(Path("/dev/null")) as sink:
        sink.write(b"new")
    assert Path("/dev/null").is_char_device()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "a") as sink:
        sink.write(b"new")
    assert _names(tmp_path) == ["a"]


def test_only_durable_files_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with atomic_write(tmp_path / "a", durable=False) as sink:
        sink.write(b"new")
    assert synced == []
    with atomic_write(tmp_path / "a") as sink:
        sink.write(b"new")
    assert len(synced) == 2  # the file and its folder


@pytest.mark.parametrize("call", ["os.open", "os.fsync"])
def test_a_folder_that_cannot_be_synced_does_not_undo_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(f"trainable.atomic_files.{call}", _out_of_space)
    sync_folder(tmp_path)


def test_the_steps_of_a_write_are_named_in_order(tmp_path: Path) -> None:
    steps: list[str] = []
    with observing_failpoints(steps.append), atomic_write(tmp_path / "a") as sink:
        sink.write(b"new")
    failpoint("nobody looks any more")
    assert steps == [
        "a: temporary file made",
        "a: temporary file written",
        "a: in its place",
        f"{tmp_path.name}: folder synced",
    ]


class Slow(io.RawIOBase):
    """A file that takes at most three bytes per write, as a kernel may do."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: object) -> int:
        assert isinstance(part, bytes)
        self.taken.append(part[:3])
        return len(self.taken[-1])


def test_a_whole_record_is_appended_even_if_the_kernel_takes_a_part(tmp_path: Path) -> None:
    slow = Slow()
    append(slow, b"0123456789", "journal")  # type: ignore[arg-type]
    assert slow.taken == [b"012", b"345", b"678", b"9"]


def test_the_steps_of_an_append_are_passed_before_and_after_each_call_of_the_kernel() -> None:
    slow = Slow()
    seen: list[tuple[str, bytes]] = []

    def look(name: str) -> None:
        seen.append((name, b"".join(slow.taken)))

    with observing_failpoints(look):
        append(slow, b"01234", "journal")  # type: ignore[arg-type]
    assert seen == [
        ("journal: to be appended", b""),
        ("journal: partly appended", b"012"),
        ("journal: appended", b"01234"),
    ]


def test_a_record_is_appended_in_one_call_observed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    names: list[str] = []
    with path.open("ab", buffering=0) as file, observing_failpoints(names.append):
        append(file, b"0123456789", "journal")
    assert path.read_bytes() == b"0123456789"
    assert names == ["journal: to be appended", "journal: appended"]


def test_an_observer_may_end_the_write_at_any_step(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def stopping_at(number: int) -> Callable[[str], None]:
        passed: list[str] = []

        def stop(name: str) -> None:
            passed.append(name)
            if len(passed) == number:
                raise RuntimeError(name)

        return stop

    for number, content in ((1, b"old"), (2, b"old"), (3, b"new"), (4, b"new")):
        path.write_bytes(b"old")
        with (
            pytest.raises(RuntimeError, match=r"temporary|in its place|folder"),
            observing_failpoints(stopping_at(number)),
            atomic_write(path) as sink,
        ):
            sink.write(b"new")
        assert path.read_bytes() == content
