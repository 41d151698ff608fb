import os
from pathlib import Path

import numpy as np
import pytest

from orchestrator.datasets import files
from orchestrator.datasets.files import Refusal, Root, file_reader, read_file
from tests.orchestrator.datasets.conftest import write
from trainable.errors import DataError


def test_relative_paths_lie_below_the_root_and_absolute_ones_where_they_say(
    tmp_path: Path,
) -> None:
    other = write(tmp_path / "other", b"two")
    write(tmp_path / "root" / "a" / "b", b"one")
    read = file_reader(tmp_path / "root", ["a/b", str(other)])
    assert list(read(np.asarray([0, 1]))) == [b"one", b"two"]
    assert list(read(np.asarray([1]))) == [b"two"]


def test_a_file_that_cannot_be_read_gives_the_reason(tmp_path: Path) -> None:
    error = read_file(str(tmp_path / "none"))
    assert isinstance(error, DataError)
    assert str(error) == "cannot be read: No such file or directory"
    assert "Is a directory" in str(read_file(str(tmp_path)))


def test_a_file_too_long_for_an_image_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    assert read_file(str(write(tmp_path / "a", b"0123456789"))) == b"0123456789"
    error = read_file(str(write(tmp_path / "b", b"0123456789a")))
    assert str(error) == "11 bytes; allowed are 10"


def test_a_file_that_comes_in_pieces_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", b"0123456789")
    real = os.read
    monkeypatch.setattr("orchestrator.datasets.files.os.read", lambda file, _: real(file, 3))
    assert read_file(str(path)) == b"0123456789"


def test_a_root_refuses_what_is_not_a_file_inside_it(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", b"x")
    root = Root(tmp_path / "root")
    write(tmp_path / "root" / "a" / "b.png", b"x")
    (tmp_path / "root" / "in").symlink_to("a/b.png")
    (tmp_path / "root" / "out").symlink_to(outside)
    (tmp_path / "root" / "loop").symlink_to("loop")
    (tmp_path / "root" / "dead").symlink_to("nowhere")
    assert root.refusal("a/b.png") is None
    assert root.refusal("a/../a/b.png") is None
    assert root.refusal("in") is None
    assert root.refusal(str(tmp_path / "root" / "a" / "b.png")) is None
    for path, reason in (
        ("../outside", "lie outside"),
        (str(outside), "lie outside"),
        ("/etc/passwd", "lie outside"),
        ("out", "lead through links out of"),
        ("none.png", "are missing"),
        ("none/none.png", "are missing"),
        ("loop", "are links to files that are not there"),
        ("dead", "are links to files that are not there"),
        ("a", "are no files"),
        ("a\0b", "hold a NUL character"),
    ):
        refusal = root.refusal(path)
        assert refusal is not None
        assert refusal.startswith(reason), path


def test_links_are_followed_where_they_may_be_but_never_a_path_that_leads_out(
    tmp_path: Path,
) -> None:
    write(tmp_path / "store" / "more" / "a", b"x")
    write(tmp_path / "secret", b"x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").symlink_to(tmp_path / "store" / "more" / "a")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "store" / "more")
    (tmp_path / "root" / "around").symlink_to(tmp_path)
    root = Root(tmp_path / "root", follow=True)
    assert root.refusal("file") is None
    assert root.refusal("folder/a") is None
    for path in ("../secret", "folder/../../secret", str(tmp_path / "secret")):
        assert root.refusal(path) is Refusal.OUTSIDE
    assert root.refusal("around/secret") is Refusal.LINKED


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s9--ab.png\n", "git annex get"),
    ],
)
def test_a_file_that_stands_for_one_that_was_not_fetched_says_so(
    tmp_path: Path, content: bytes, command: str
) -> None:
    error = read_file(str(write(tmp_path / "a.png", content)))
    assert str(error) == f"stands for a file that is not here; fetch it with {command}"


def test_a_file_that_looks_like_a_missing_one_is_sought_inside_the_root_alone(
    tmp_path: Path,
) -> None:
    for name in ("out/a.png", "root/In/A.png", "root/b.png", "root/B.png"):
        write(tmp_path / name, b"x")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "out")
    root = Root(tmp_path / "root")
    assert root.twin("in/a.png") == "In/A.png"
    hostile = ["../out/A.png", str(tmp_path / "out" / "A.png"), "link/A.png", "x" * 5000, "a\0"]
    for path in [*hostile, "b.PNG", "in", "", "."]:
        assert root.twin(path) is None
