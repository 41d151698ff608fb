"""Names that look alike, from wherever they come."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.datasets.name_keys import alike, escaped, likeness
from orchestrator.datasets.sections import FolderSection, ParquetSection, TableSection
from tests.orchestrator.datasets.conftest import dataset_of, encoded, notes_of, problems_of, write

PAIRS = [
    ("cat", "cat "),
    ("cat", "\tcat"),
    ("cat", "Cat"),
    ("gro\u00dfe", "GROSSE"),
    ("caf\u00e9", "cafe\u0301"),
    ("hot dog", "hot  dog"),
    ("hot dog", "hot\u00a0dog"),
    ("cat", "cat\u200b"),
    ("cat", "\ufeffcat"),
    ("cat", "\uff43\uff41\uff54"),
]


def write_class(root: Path, name: str, *, start: int) -> None:
    for number in range(6):
        write(root / name / f"{number}.png", encoded(start + number))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_looks_alike_has_one_key(one: str, other: str) -> None:
    assert one != other
    assert likeness(one) == likeness(other)


@pytest.mark.parametrize("names", [("cat", "cats"), ("a b", "ab"), ("1", "01"), ("e", "\u00e9")])
def test_what_looks_different_has_keys_of_its_own(names: tuple[str, str]) -> None:
    assert alike(names) == []


def test_names_alike_are_escaped_and_others_shown_as_they_are() -> None:
    names = ["caf\u00e9", "cafe\u0301", "gr\u00fcn"]
    assert escaped(names) == "'caf\\xe9', 'cafe\\u0301', 'gr\u00fcn'"
    assert escaped(names, most=1) == "'caf\\xe9' and 2 more"


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_class_folders_that_look_alike_are_a_problem(one: str, other: str, tmp_path: Path) -> None:
    for number, name in enumerate((one, other, "dog")):
        write_class(tmp_path, name, start=20 * number)
    (line,) = problems_of(FolderSection(path=str(tmp_path)))
    assert line.startswith("dataset: class names that look alike: ")
    assert ascii(one) in line
    assert ascii(other) in line


def test_classes_of_two_splits_that_look_alike_are_a_problem(tmp_path: Path) -> None:
    for number, place in enumerate(("train/cat", "train/dog", "test/cat ", "test/dog")):
        write_class(tmp_path, place, start=20 * number)
    (line,) = problems_of(FolderSection(path=str(tmp_path)))
    assert "look alike: 'cat', 'cat '; allowed" in line


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_of_columns_that_look_alike_are_a_problem(kind: str, tmp_path: Path) -> None:
    labels = [("cat", "Cat ", "dog")[row % 3] for row in range(18)]
    if kind == "csv":
        paths = [f"{row}.png" for row in range(18)]
        for row, path in enumerate(paths):
            write(tmp_path / path, encoded(row))
        with (tmp_path / "t.csv").open("w", newline="") as sink:
            csv.writer(sink).writerows([("path", "label"), *zip(paths, labels, strict=True)])
        lines = problems_of(TableSection(path=str(tmp_path / "t.csv")))
    else:
        table = pa.table({"image": [encoded(row) for row in range(18)], "label": labels})
        pq.write_table(table, tmp_path / "t.parquet")
        lines = problems_of(ParquetSection(path=str(tmp_path / "t.parquet")))
    assert [line.split(";")[0] for line in lines] == [
        "dataset: class names that look alike: 'Cat ', 'cat'"
    ]


def table_of(root: Path, paths: list[str]) -> TableSection:
    with (root / "t.csv").open("w", newline="", encoding="utf-8") as sink:
        rows = [(path, "ab"[row % 2]) for row, path in enumerate(paths)]
        csv.writer(sink).writerows([("path", "label"), *rows])
    return TableSection(path=str(root / "t.csv"))


def test_a_missing_path_names_the_file_that_looks_like_it(tmp_path: Path) -> None:
    there = ["caf\u00e9/0.png", "B/1.PNG", "2.png", "3.png"]
    for row, path in enumerate(there):
        write(tmp_path / path, encoded(row))
    paths = ["cafe\u0301/0.png", "b/1.png", "\uff12.png", "3.png", "none.png"]
    (line,) = problems_of(table_of(tmp_path, paths))
    assert line.startswith("dataset.path_column: 4 of 5 are missing: ")
    assert line.endswith(
        "; there are files that look alike: 'caf\\xe9/0.png' for 'cafe\\u0301/0.png', "
        "'B/1.PNG' for 'b/1.png', '2.png' for '\\uff12.png'"
    )


@pytest.mark.parametrize("again", ["./x/0.png", "x//0.png", "x/../x/0.png"])
def test_one_file_under_two_spellings_is_in_several_rows(again: str, tmp_path: Path) -> None:
    paths = [f"x/{row}.png" for row in range(12)]
    for row, path in enumerate(paths):
        write(tmp_path / path, encoded(row))
    (line,) = problems_of(table_of(tmp_path, [*paths, again]))
    assert f"paths in several rows, though an image has one label: 'x/0.png', '{again}'" in line


def test_files_of_their_own_that_look_alike_are_noted(tmp_path: Path) -> None:
    paths = [f"{row}.png" for row in range(12)] + ["a.png", "A.png"]
    for row, path in enumerate(paths):
        write(tmp_path / path, encoded(row))
    notes = notes_of(dataset_of(table_of(tmp_path, paths)))
    assert "paths that look alike, each with a file of its own: 1\n  'a.png', 'A.png'" in notes


def test_groups_that_look_alike_are_noted(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for place in range(12):
            patient = ("p1", "P1", "p2", "p3")[place % 4]
            write(tmp_path / name / f"{patient}_{place}.png", encoded(20 * number + place))
    dataset = dataset_of(FolderSection(path=str(tmp_path), group=r"([pP]\d)_", test=0.5))
    assert "groups whose names look alike: 1\n  'P1', 'p1'" in notes_of(dataset)
