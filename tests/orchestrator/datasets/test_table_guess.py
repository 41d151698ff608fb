"""Which table lies in a folder, and what its columns are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.datasets.table_guess import guess_table
from tests.orchestrator.datasets.conftest import dataset_of, encoded, write

Rows = Sequence[Sequence[object]]


def write_rows(path: Path, header: Sequence[str], rows: Rows, delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as sink:
        csv.writer(sink, delimiter=delimiter).writerows([header, *rows])
    return path


def write_images(folder: Path) -> None:
    for number in range(24):
        write(folder / f"i{number}.png", encoded(number))


def rows_of(pattern: str, *more: Sequence[object]) -> Rows:
    return [
        [pattern.format(number), *(one[number % len(one)] for one in more)] for number in range(24)
    ]


@pytest.mark.parametrize(
    ("table", "pattern", "keys"),
    [
        ("labels.csv", "images/i{}.png", {}),
        ("labels.csv", "images\\i{}.png", {}),
        ("labels.csv", "images/i{}", {}),
        ("meta/labels.csv", "i{}.png", {"root": "images"}),
        ("meta/labels.txt", "images/i{}.png", {"root": ""}),
        ("labels.tsv", "/home/bob/images/i{}.png", {"match": "ending"}),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_found_with_the_keys_that_its_paths_need(
    tmp_path: Path, table: str, pattern: str, keys: dict[str, str], delimiter: str
) -> None:
    write_images(tmp_path / "images")
    header = ["age", "Image Path" if "." in pattern else "image_id", "Class"]
    rows = [[i % 5, path, label] for i, (path, label) in enumerate(rows_of(pattern, "xy"))]
    path = write_rows(tmp_path / table, header, rows, delimiter)
    found = guess_table(tmp_path)
    assert found is not None
    if "root" in keys:
        keys = {"root": str(tmp_path / keys["root"])}
    assert found.section.path == str(path)
    assert found.section.path_column == header[1]
    assert found.section.label_column == "Class"
    assert found.other_labels == ("age",)
    assert {key: getattr(found.section, key) for key in keys} == keys
    assert dataset_of(found.section).images.class_names == ("x", "y")


def test_a_column_of_split_words_is_the_split(tmp_path: Path) -> None:
    write_images(tmp_path)
    split = ["train", "train", "Test", "val"]
    path = write_rows(tmp_path / "t.csv", ["f", "kind", "part"], rows_of("i{}.png", "xyz", split))
    found = guess_table(path)
    assert found is not None
    assert (found.section.label_column, found.section.split_column) == ("kind", "part")


def test_images_of_other_folders_around_are_nobodys(tmp_path: Path) -> None:
    write_images(tmp_path / "other")
    write_rows(tmp_path / "mine" / "t.csv", ["path", "label"], rows_of("i{}.png", "xy"))
    assert guess_table(tmp_path / "mine") is None


@pytest.mark.parametrize("content", [b"", b"PAR1", b"path,label\n", b"\xff\xfe\x00", b"a\nb\n"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "txt"])
def test_what_is_no_table_of_images_is_none(tmp_path: Path, kind: str, content: bytes) -> None:
    path = write(tmp_path / f"t.{kind}", content)
    assert guess_table(path) is None
    assert guess_table(tmp_path) is None


def test_a_row_of_an_image_is_no_header(tmp_path: Path) -> None:
    write_images(tmp_path)
    first, *others = rows_of("i{}.png", "xy")
    path = write_rows(tmp_path / "t.csv", [str(field) for field in first], others)
    assert guess_table(path) is None


@pytest.mark.parametrize("pattern", ["images/i{}.png", "x/images/i{}.png"])
def test_links_are_followed_where_images_need_it(tmp_path: Path, pattern: str) -> None:
    write_images(tmp_path / "store")
    write_rows(tmp_path / "mine" / "t.csv", ["path", "label"], rows_of(pattern, "xy"))
    (tmp_path / "mine" / "images").symlink_to(tmp_path / "store")
    found = guess_table(tmp_path / "mine")
    assert found is not None
    assert found.section.links == "follow"
    assert len(dataset_of(found.section).images) == 24
