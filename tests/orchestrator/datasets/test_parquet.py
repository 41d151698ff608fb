import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.datasets.sections import ParquetSection
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    rows_of,
    write,
)
from trainable.data.labelled_examples import Split
from trainable.spec.trial_spec import LabelBudget


def section(path: Path, **options: object) -> ParquetSection:
    return ParquetSection.model_validate({"path": str(path), **options})


def write_parquet(
    path: Path,
    *,
    count: int = 40,
    start: int = 0,
    hugging_face: bool = False,
    names: list[str] | None = None,
    row_group_size: int = 7,
    **columns: Any,
) -> Path:
    """Digits with the labels 0 and 1 in turns, as bytes or as Hugging Face's struct."""
    images: list[Any] = [encoded(start + number) for number in range(count)]
    if hugging_face:
        images = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(images)]
    labels = [number % 2 for number in range(count)]
    table = pa.table({"image": images, "label": labels, **columns})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("hugging_face", [True, False])
def test_bytes_are_those_of_the_column(tmp_path: Path, hugging_face: bool) -> None:
    path = write_parquet(tmp_path / "a.parquet", hugging_face=hugging_face)
    images = dataset_of(section(path)).images
    assert images.class_names == ("0", "1")
    for row, name in enumerate(images.paths):
        number = int(name.removeprefix("a.parquet#"))
        assert images.encoded(row) == encoded(number)
        assert images.labels[row] == number % 2


@pytest.mark.parametrize("row_group_size", [1, 7, 100, 1000])
def test_images_read_again_are_the_right_ones(tmp_path: Path, row_group_size: int) -> None:
    for number in range(3):
        write_parquet(
            tmp_path / f"{number}.parquet",
            start=100 * number,
            count=100,
            row_group_size=row_group_size,
        )
    images = dataset_of(section(tmp_path), LabelBudget(3)).images
    read = np.flatnonzero(images.is_read())
    assert 0 < len(read) < 150
    for row in read:
        file, place = images.paths[row].split(".parquet#")
        assert images.encoded(int(row)) == encoded(100 * int(file) + int(place))


def test_class_names_of_hugging_face_are_kept_in_their_order(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", hugging_face=True, names=["zebra", "ant", "no"])
    images = dataset_of(section(path)).images
    assert images.class_names == ("zebra", "ant")
    assert rows_of(images)["a.parquet#0"][0] == "zebra"


def test_numbers_beyond_the_class_names_are_a_problem(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", names=["zebra"])
    (line,) = problems_of(section(path))
    assert (
        line
        == "dataset.label_column: a.parquet: got '1'; the file's metadata name the classes 0 to 0"
    )


def test_numbers_are_read_by_the_names_in_their_own_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-0.parquet", names=["bee", "ant", "cat"], start=100)
    write_parquet(tmp_path / "train-0.parquet", names=["ant", "bee", "cat"])
    images = dataset_of(section(tmp_path)).images
    assert images.class_names == ("bee", "ant")
    rows = rows_of(images)
    assert [rows[f"test-0.parquet#{row}"][0] for row in range(3)] == ["bee", "ant", "bee"]
    assert [rows[f"train-0.parquet#{row}"][0] for row in range(3)] == ["ant", "bee", "ant"]


def test_classes_are_those_of_all_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", names=["bee", "ant"])
    write_parquet(tmp_path / "1.parquet", names=["cow", "ant"], start=100)
    write_parquet(tmp_path / "2.parquet", names=["dog", "bee"], start=200)
    images = dataset_of(section(tmp_path)).images
    assert images.class_names == ("bee", "ant", "cow", "dog")
    assert rows_of(images)["2.parquet#1"][0] == "bee"


@pytest.mark.parametrize("without", ["a.parquet", "b.parquet"])
def test_numbers_without_names_beside_names_are_a_problem(tmp_path: Path, without: str) -> None:
    for file in ("a.parquet", "b.parquet"):
        write_parquet(tmp_path / file, names=None if file == without else ["ant", "bee"])
    (line,) = problems_of(section(tmp_path))
    assert line.startswith(
        f"dataset.label_column: numbers without names of classes in '{without}', beside names in "
    )


def test_rows_without_a_label_are_told_as_such(tmp_path: Path) -> None:
    labels = [number % 3 - 1 for number in range(40)]
    path = write_parquet(tmp_path / "a.parquet", names=["ant", "bee"], other=labels)
    table = pq.read_table(path)
    renamed = table.drop_columns(["label"]).rename_columns(["image", "label"])
    pq.write_table(renamed.replace_schema_metadata(table.schema.metadata), path)
    (line,) = problems_of(section(path))
    assert line == (
        "dataset.label_column: a.parquet: got '-1'; the file's metadata name the classes 0 to 1; "
        "rows without a label have to be left out"
    )


def test_classes_of_whole_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    numbers = [(number % 4) * 5 for number in range(40)]
    path = write_parquet(tmp_path / "a.parquet", other=numbers)
    images = dataset_of(section(path, label_column="other")).images
    assert images.class_names == ("0", "5", "10", "15")


def test_split_and_groups_are_kept(tmp_path: Path) -> None:
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    groups = [f"g{number // 5}" for number in range(40)]
    path = write_parquet(tmp_path / "a.parquet", split=splits, group=groups)
    found = section(path, split_column="split", group="group")
    images = dataset_of(found, keep_val=True).images
    assert [list(images.split).count(split) for split in Split] == [20, 10, 10]
    assert images.groups is not None
    assert len(set(images.groups.tolist())) == 8


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("train/0.parquet", "test/0.parquet"),
    ],
)
def test_files_and_folders_named_after_splits_say_which_split(
    tmp_path: Path, train: str, test: str
) -> None:
    write_parquet(tmp_path / train)
    write_parquet(tmp_path / test, start=500, count=10)
    write_parquet(tmp_path / ".cache" / "x.parquet", start=900)
    dataset = dataset_of(section(tmp_path))
    assert (dataset.images.split == Split.TEST).sum() == 10
    assert len(dataset.images) == 50
    assert "test split: the data's own, 10 images" in notes_of(dataset)


def test_a_row_without_bytes_is_left_out(tmp_path: Path) -> None:
    images: list[Any] = [{"bytes": encoded(i), "path": None} for i in range(40)]
    images[3] = {"bytes": None, "path": "x.png"}
    images[4] = None
    labels = [number % 2 for number in range(40)]
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "a.parquet")
    dataset = dataset_of(section(tmp_path / "a.parquet", max_bad_fraction=0.1))
    assert "a.parquet#3: the row holds no bytes" in notes_of(dataset)
    assert "a.parquet#4: the row holds no bytes" in notes_of(dataset)
    assert len(dataset.images) == 38


def test_problems_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": ["text"], "label": [1]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"picture": [b"x"], "label": [1]}), tmp_path / "c.parquet")
    write(tmp_path / "d.parquet", b"torn")
    (tmp_path / "e.parquet").symlink_to(write_parquet(tmp_path.parent / "outside.parquet"))
    text = "\n".join(problems_of(section(tmp_path)))
    assert "dataset.image_column: b.parquet has string there; allowed: binary, or a struct" in text
    assert "no column 'image' in c.parquet; columns: 'picture', 'label'" in text
    assert "dataset.path: d.parquet cannot be read: " in text
    assert "dataset.path: links that lead out of the folder: 'e.parquet'" in text


def test_what_holds_no_rows_says_so(tmp_path: Path) -> None:
    (line,) = problems_of(section(tmp_path / "none"))
    assert line.endswith("none: no such file or folder")
    (line,) = problems_of(section(tmp_path))
    assert line.endswith("holds no .parquet file")
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet")
    (line,) = problems_of(section(tmp_path))
    assert line.endswith("has no rows")


TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]
NUMBERS = [pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.dictionary(pa.int8(), pa.int16())]


@pytest.mark.parametrize(
    ("kinds", "words"), [(TEXTS, ["cat", "dog"]), (NUMBERS, [0, 1])], ids=["text", "numbers"]
)
def test_files_may_differ_in_how_they_store_the_same_values(
    tmp_path: Path, kinds: list[pa.DataType], words: list[str] | list[int]
) -> None:
    kinds_of_images = [pa.binary(), pa.large_binary(), pa.binary_view()]
    for number, kind in enumerate(kinds):
        columns = {
            "image": pa.array(
                [encoded(10 * number + row) for row in range(10)], kinds_of_images[number % 3]
            ),
            "label": pa.array(words * 5, kind),
            "patient": pa.array([row // 2 for row in range(10)], NUMBERS[number]),
        }
        names = sorted(columns, reverse=number % 2 == 1)  # nor does the order of columns matter
        table = pa.table({name: columns[name] for name in names})
        pq.write_table(
            table, tmp_path / f"{number}.{('parquet', 'PARQUET', 'Parquet')[number % 3]}"
        )
    images = dataset_of(section(tmp_path, group="patient")).images
    assert images.class_names == tuple(str(word) for word in words)
    assert len(images.labels) == 50
    for row, name in enumerate(images.paths):
        assert images.labels[row] == int(name.rpartition("#")[2]) % 2


def test_files_that_differ_in_the_family_of_labels_are_a_problem_that_names_them(
    tmp_path: Path,
) -> None:
    for number, labels in enumerate([["a", "b"], [0, 1], [1, 0], [0.5, 1.0]]):
        table = pa.table({"image": [encoded(number), encoded(10 + number)], "label": labels})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    (line,) = problems_of(section(tmp_path))
    assert line == (
        "dataset.path: column 'label' differs: double in 3.parquet; int64 in 1.parquet; "
        "large_string in 0.parquet. Write it in one type in all files"
    )


def test_a_number_beyond_64_bits_is_a_problem(tmp_path: Path) -> None:
    labels = pa.array([0, 2**64 - 1], type=pa.uint64())
    pq.write_table(
        pa.table({"image": [encoded(0), encoded(1)], "label": labels}), tmp_path / "a.parquet"
    )
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.path: a.parquet cannot be read: Integer value")


@pytest.mark.parametrize("link", ["shards", "folder"])
def test_links_to_files_outside_are_read_where_the_file_says_so(tmp_path: Path, link: str) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    for number in range(2):
        write_parquet(store / f"{number}.parquet", start=100 * number)
    root.mkdir()
    if link == "folder":
        (root / "data").symlink_to(store)
    else:
        for path in store.iterdir():
            (root / path.name).symlink_to(path)
    (line,) = problems_of(section(root))
    assert line.endswith("to read what they lead to, say dataset.links: follow")
    images = dataset_of(section(root, links="follow")).images
    assert images.fingerprint() == dataset_of(section(store)).images.fingerprint()


def test_a_shard_that_stands_for_one_that_was_not_fetched_says_so(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet")
    write(tmp_path / "1.parquet", b"version https://git-lfs.github.com/spec/v1\nsize 9\n")
    (line,) = problems_of(section(tmp_path))
    assert line == (
        "dataset.path: 1.parquet stands for a file that is not here; fetch it with git lfs pull"
    )


def test_shards_that_were_not_fetched_are_counted(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet")
    (tmp_path / "1.parquet").symlink_to("nowhere")
    (line,) = problems_of(section(tmp_path, links="follow"))
    assert "1 of 2 files are links to files that are not there: '1.parquet'; fetch" in line
