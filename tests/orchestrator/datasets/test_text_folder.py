from pathlib import Path

import pytest

from orchestrator.datasets.sections import FolderSection
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    notes_of,
    problems_of,
    rows_of,
    write,
    write_digits,
)
from trainable.data.labelled_examples import Split


def section(path: Path, **options: object) -> FolderSection:
    return FolderSection.model_validate({"path": str(path), **options})


def write_texts(root: Path, *, per_class: int = 10, classes: str = "ab", start: int = 0) -> Path:
    for label in classes:
        for number in range(start, start + per_class):
            write(root / label / f"{number:02d}.txt", f"{label} says {number}\n".encode())
    return root


def test_a_folder_of_txt_files_is_one_of_texts(tmp_path: Path) -> None:
    found = dataset_of(section(write_texts(tmp_path))).images
    assert found.modality == "text"
    assert found.class_names == ("a", "b")
    assert found.encoded(found.paths.index("b/03.txt")) == b"b says 3\n"


def test_texts_in_folders_of_splits_keep_their_splits(tmp_path: Path) -> None:
    write_texts(tmp_path / "train")
    write_texts(tmp_path / "test", start=10, per_class=5)
    found = dataset_of(section(tmp_path)).images
    assert [int((found.split == split).sum()) for split in Split] == [20, 0, 10]
    assert rows_of(found)["test/b/12.txt"] == ("b", Split.TEST)


def test_images_and_texts_that_may_both_be_meant_are_refused(tmp_path: Path) -> None:
    write_digits(tmp_path)
    for number in range(11):
        write(tmp_path / "0" / f"text{number}.txt", b"x")
    (line,) = problems_of(section(tmp_path))
    assert line.startswith(f"dataset.path: {tmp_path} holds 20 images, such as '0/")
    assert "and 11 texts, such as '0/text0.txt'; allowed: one of the two" in line


@pytest.mark.parametrize("stray", ["0/readme.txt", "1/notes.txt"])
def test_a_stray_text_beside_images_is_noted(tmp_path: Path, stray: str) -> None:
    write_digits(tmp_path)
    write(tmp_path / stray, b"x")
    dataset = dataset_of(section(tmp_path))
    assert dataset.images.modality == "image"
    assert "files that are no images by their names: 1 (1 .txt)" in notes_of(dataset)


def test_texts_that_are_called_as_images_are_their_captions(tmp_path: Path) -> None:
    write_digits(tmp_path)
    for path in list(tmp_path.rglob("*.png")):
        write(path.with_suffix(".txt"), b"a digit")
    assert dataset_of(section(tmp_path)).images.modality == "image"


def test_a_stray_image_beside_texts_is_noted(tmp_path: Path) -> None:
    write_texts(tmp_path)
    write(tmp_path / "a" / "logo.png", b"x")
    dataset = dataset_of(section(tmp_path))
    assert dataset.images.modality == "text"
    assert "files that are no texts by their names: 1 (1 .png)" in notes_of(dataset)


def test_texts_that_cannot_be_used_are_left_out_or_refused(tmp_path: Path) -> None:
    write_texts(tmp_path)
    write(tmp_path / "a" / "00.txt", b"fine\nna\xefve")
    write(tmp_path / "a" / "01.txt", b" \n")
    write(tmp_path / "a" / "02.txt", b"")
    write(tmp_path / "a" / "03.txt", "\u200b\ufeff".encode())
    write(tmp_path / "a" / "04.txt", b"a\0b")
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.max_bad_fraction: got 0.01; 5 of 20 texts cannot be used")
    assert (
        "a/00.txt: cannot be decoded: byte 0xef at position 7 (line 2) is not utf-8; write" in line
    )
    assert "a/01.txt: the text is blank" in line
    assert "a/02.txt: the file is empty" in line
    assert "a/03.txt: the text is blank" in line
    assert "a/04.txt: cannot be decoded: a NUL character at position 1" in line
    dataset = dataset_of(section(tmp_path, max_bad_fraction=0.5, encoding="latin-1"))
    assert "a/01.txt" not in dataset.images.paths
    texts = [dataset.images.encoded(row).decode() for row in range(len(dataset.images))]
    assert "fine\nnaïve" in texts


def test_an_unknown_encoding_is_told_with_all_else(tmp_path: Path) -> None:
    write_texts(tmp_path)
    group, encoding = problems_of(section(tmp_path, encoding="hex", group="q(.)"))
    assert encoding.startswith("dataset.encoding: got 'hex'; allowed: an encoding that Python")
    assert group.startswith("dataset.group: got 'q(.)', which gives 20 of 20 texts no group")


def test_texts_without_class_folders_say_what_is_due(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "set") / "a"
    (line,) = problems_of(section(folder))
    assert "allowed: one folder a class, with its images or texts inside" in line
    assert line.endswith(
        f"{folder.parent} holds 'a', 'b' with texts; if these are the classes, say dataset.path: "
        f"{folder.parent}"
    )
