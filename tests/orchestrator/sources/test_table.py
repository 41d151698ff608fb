import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.space import TableSection
from tests.orchestrator.sources.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    rows_of,
    write,
)
from trainable.images import Split

LABELS = ["no", "yes", "1", "01"]
KINDS = ["csv", "tsv", "parquet"]


def section(path: Path, **options: object) -> TableSection:
    return TableSection.model_validate({"path": str(path), **options})


def write_table(
    folder: Path, kind: str = "csv", *, rows: Sequence[dict[str, object]], files: bool = True
) -> Path:
    """A table of these rows, and a file for every path in it that stays inside the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    for number, row in enumerate(rows if files else ()):
        write(folder / str(row["path"]), encoded(number))
    path = folder / f"labels.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def labelled(*, each: int = 6, labels: Sequence[str] = LABELS) -> list[dict[str, object]]:
    return [
        {"path": f"images/{number:03d}.png", "label": labels[number % len(labels)]}
        for number in range(each * len(labels))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_the_text_that_they_are(tmp_path: Path, kind: str) -> None:
    path = write_table(tmp_path, kind, rows=labelled())
    images = dataset_of(section(path)).images
    assert images.class_names == ("01", "1", "no", "yes")
    assert {path: row[0] for path, row in rows_of(images).items()} == {
        str(row["path"]): row["label"] for row in labelled()
    }
    assert images.encoded(5) == (tmp_path / "images" / "005.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_dangerous_names_survive_as_text(tmp_path: Path, kind: str) -> None:
    names = ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", 'a "b", c', "two\nlines", "NA"]
    path = write_table(tmp_path, kind, rows=labelled(labels=names))
    assert dataset_of(section(path)).images.class_names == tuple(sorted(names))


def test_columns_may_have_other_names_and_images_another_root(tmp_path: Path) -> None:
    rows = labelled()
    write_table(tmp_path / "files", rows=rows)
    table = [{"file": row["path"], "class": row["label"], "more": 1} for row in rows]
    path = tmp_path / "elsewhere.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    found = section(path, root=str(tmp_path / "files"), path_column="file", label_column="class")
    assert len(dataset_of(found).images) == 24


def test_whole_numbers_and_categories_of_parquet_become_text(tmp_path: Path) -> None:
    rows = labelled(labels=["0", "1"])
    write_table(tmp_path, rows=rows)
    frame = pd.DataFrame(rows)
    for name, column in (
        ("number", frame["label"].astype(int)),
        ("category", frame["label"].astype("category")),
    ):
        path = tmp_path / f"{name}.parquet"
        frame.assign(label=column).to_parquet(path)
        assert dataset_of(section(path)).images.class_names == ("0", "1")
    path = tmp_path / "float.parquet"
    frame.assign(label=frame["label"].astype(float)).to_parquet(path)
    (line,) = problems_of(section(path))
    assert line == (
        "dataset.label_column: values of type double; allowed: text, whole numbers or bools"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_split_and_groups_are_kept(tmp_path: Path, kind: str) -> None:
    words = ["train", "Training", "VAL", "valid", "dev", "test"]
    rows = [
        {**row, "split": words[number // 2 % 6], "patient": f"p{number // 4}"}
        for number, row in enumerate(labelled(each=24, labels=["a", "b"]))
    ]
    for row in rows:
        row["patient"] = f"{row['patient']}-{row['split'] == 'test'}"
    path = write_table(tmp_path, kind, rows=rows)
    dataset = dataset_of(section(path, split_column="split", group="patient"))
    images = dataset.images
    assert [list(images.split).count(split) for split in Split] == [40, 0, 8]
    assert "the data's own val split, 24 images, joins the pool" in notes_of(dataset)
    assert images.groups is not None
    assert len(set(images.groups.tolist())) == len({row["patient"] for row in rows})


def test_groups_of_a_column_are_never_separated_by_the_test_split(tmp_path: Path) -> None:
    rows = [
        {**row, "patient": number // 4}
        for number, row in enumerate(labelled(each=24, labels=["a", "b"]))
    ]
    path = write_table(tmp_path, "parquet", rows=rows)
    images = dataset_of(section(path, group="patient", test=0.5)).images
    assert images.groups is not None
    test = images.split == Split.TEST
    assert 0 < test.sum() < len(images)
    assert not set(images.groups[test].tolist()) & set(images.groups[~test].tolist())


def test_every_problem_of_the_rows_is_told_at_once(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.png", encoded(9))
    root = tmp_path / "root"
    rows: list[dict[str, object]] = [
        *labelled(),
        {"path": "../secret.png", "label": "no"},
        {"path": str(secret), "label": "no"},
        {"path": "images/../../secret.png", "label": "no"},
        {"path": "link.png", "label": "no"},
        {"path": "out/secret.png", "label": "no"},
        {"path": "none.png", "label": ""},
        {"path": "images", "label": "no"},
        {"path": "images/000.png", "label": "yes"},
    ]
    write_table(root, rows=labelled())
    (root / "link.png").symlink_to(secret)
    (root / "out").symlink_to(tmp_path, target_is_directory=True)
    path = write_table(root, rows=[{**row, "split": "tset"} for row in rows], files=False)
    lines = problems_of(section(path, split_column="split"))
    text = "\n".join(lines)
    assert f"dataset.path_column: 4 of 32 lie outside {root}: '../secret.png', " in text
    assert f"1 of 32 are links to somewhere outside {root}: 'link.png'" in text
    assert "1 of 32 are missing: 'none.png'" in text
    assert "1 of 32 are no files: 'images'" in text
    assert "paths in several rows, though an image has one label: 'images/000.png'" in text
    assert "dataset.label_column: rows without a value, counted from 0: '29'" in text
    assert "dataset.split_column: got 'tset'; allowed: train, val (or valid, " in text
    assert len(lines) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_names_those_that_are(tmp_path: Path, kind: str) -> None:
    path = write_table(tmp_path, kind, rows=labelled())
    lines = problems_of(section(path, label_column="lable", group="patient"))
    assert lines[0] == (
        f"dataset.label_column: no column 'lable' in {path}; columns: 'path', 'label'; "
        "did you mean label?"
    )
    assert lines[1].startswith("dataset.group: no column 'patient'")


def test_what_is_no_table_says_what_is_due(tmp_path: Path) -> None:
    rowless = write(tmp_path / "rowless.csv", b"path,label\n")
    ragged = write(tmp_path / "ragged.csv", b"path,label\na,b,c\n")
    latin = write(tmp_path / "latin.csv", "path,label\na.png,é\n".encode("latin-1"))
    torn = write(tmp_path / "torn.parquet", b"PAR1xx")
    for path, reason in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "is a folder; allowed: a CSV or Parquet file"),
        (write(tmp_path / "labels.xlsx", b"PK"), "allowed: .csv, .tsv or .parquet (save sheets as"),
        (rowless, "has no rows"),
        (ragged, "cannot be read: CSV parse error"),
        (latin, "cannot be read: "),
        (torn, "cannot be read: "),
        (write(tmp_path / "empty.csv", b""), "cannot be read: Empty CSV file"),
    ):
        (line,) = problems_of(section(path))
        assert line.startswith("dataset.path: ")
        assert reason in line


def test_a_root_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    path = write_table(tmp_path, rows=labelled())
    (line,) = problems_of(section(path, root=str(tmp_path / "none")))
    assert line == f"dataset.root: {tmp_path / 'none'}: no such folder"


def test_a_byte_order_mark_of_a_spreadsheet_is_no_part_of_a_column(tmp_path: Path) -> None:
    path = write_table(tmp_path, rows=labelled())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(dataset_of(section(path)).images) == 24
