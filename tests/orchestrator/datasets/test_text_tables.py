import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.datasets.sections import TableSection
from orchestrator.errors import SpaceError
from orchestrator.space.build_space import build_space
from tests.orchestrator.datasets.conftest import dataset_of, notes_of, problems_of, rows_of, write
from trainable.data.labelled_examples import LabelledExamples, Split

KINDS = ["csv", "tsv", "jsonl", "json", "parquet", "saved"]
NAMES = ["none", "NA"]


def section(path: Path, **options: object) -> TableSection:
    return TableSection.model_validate({"path": str(path), "text_column": "text", **options})


def questions(
    num: int = 24, *, labels: Sequence[object] = ("a", "b"), **more: Sequence[object]
) -> list[dict[str, object]]:
    return [
        {
            "text": f"Question {number}, asked by\tsomebody?",
            "label": labels[number % len(labels)],
            **{name: values[number % len(values)] for name, values in more.items()},
        }
        for number in range(num)
    ]


def save_to_disk(folder: Path, table: pa.Table, *, shards: int = 1) -> Path:
    """What `datasets.Dataset.save_to_disk` leaves: Arrow streams, and a list of them."""
    folder.mkdir(parents=True)
    names = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    bounds = np.linspace(0, len(table), shards + 1).astype(int)
    for name, start, stop in zip(names, bounds, bounds[1:], strict=False):
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table.slice(start, stop - start))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_split": None})
    )
    return folder


def write_table(folder: Path, kind: str, rows: Sequence[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rows.{kind}"
    if kind == "saved":
        return save_to_disk(path, pa.Table.from_pylist(list(rows)), shards=2)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif kind == "json":
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def texts_of(examples: LabelledExamples) -> list[str]:
    return [examples.encoded(row).decode() for row in range(len(examples))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_a_text_in_every_format(tmp_path: Path, kind: str) -> None:
    rows = questions(labels=NAMES)
    found = dataset_of(section(write_table(tmp_path, kind, rows))).images
    assert found.modality == "text"
    assert texts_of(found) == [row["text"] for row in rows]
    assert [found.class_names[label] for label in found.labels] == [row["label"] for row in rows]
    assert found.paths[3] == f"rows.{kind}#3"


@pytest.mark.parametrize("kind", KINDS)
def test_splits_and_groups_of_columns_are_kept(tmp_path: Path, kind: str) -> None:
    words = ["train", "train", "train", "train", "Dev", "Dev", "test", "test"]
    rows = questions(48, split=words, author=[f"p{n // 2}" for n in range(8)])
    found = section(write_table(tmp_path, kind, rows), split_column="split", group="author")
    examples = dataset_of(found, keep_val=True).images
    assert [int((examples.split == split).sum()) for split in Split] == [24, 12, 12]
    assert examples.groups is not None
    assert len(np.unique(examples.groups)) == 4


def test_labels_that_look_like_missing_values_stay_text(tmp_path: Path) -> None:
    labels = ["None", "NA", "null", "nan", "true", "1"]
    rows = questions(labels=labels)
    for kind in ("csv", "jsonl", "parquet"):
        found = dataset_of(section(write_table(tmp_path, kind, rows))).images
        assert found.class_names == tuple(sorted(labels))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_names_beside_class_ids_is_noted(tmp_path: Path, kind: str) -> None:
    rows = questions(labels=[0, 1, 2], intent=["late", "lost", "paid"], length=["x", "y"])
    dataset = dataset_of(section(write_table(tmp_path, kind, rows)))
    assert dataset.images.class_names == ("0", "1", "2")
    assert (
        "classes are the numbers of column 'label'; column 'intent' has one name for each: for "
        "names say dataset.label_column: intent"
    ) in notes_of(dataset)


def test_no_column_is_taken_for_names_that_does_not_tell_classes_apart(tmp_path: Path) -> None:
    rows = questions(labels=[0, 1], topic=["a", "a", "b"], code=["3", "4"])
    assert "one name for each" not in notes_of(
        dataset_of(section(write_table(tmp_path, "csv", rows)))
    )


def test_class_names_of_a_saved_data_set_are_read(tmp_path: Path) -> None:
    features = {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}
    table = pa.Table.from_pylist(questions(labels=[0, 1])).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    found = dataset_of(section(save_to_disk(tmp_path / "sms", table, shards=3))).images
    assert found.class_names == ("ham", "spam")
    assert found.labels.tolist() == [number % 2 for number in range(24)]


def test_a_saved_dictionary_of_splits_gives_its_splits(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(questions(30))
    save_to_disk(tmp_path / "set" / "train", rows.slice(0, 20))
    save_to_disk(tmp_path / "set" / "test", rows.slice(20))
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = dataset_of(section(tmp_path / "set")).images
    assert [int((found.split == split).sum()) for split in Split] == [20, 0, 10]
    assert {path.partition("#")[0] for path in found.paths} == {"train", "test"}


def test_a_folder_of_one_table_a_split_gives_its_splits(tmp_path: Path) -> None:
    rows = questions(30)
    for name, part in (("train", rows[:20]), ("validation", rows[20:24]), ("test", rows[24:])):
        write_table(tmp_path, "csv", part).rename(tmp_path / f"{name}.csv")
    write(tmp_path / "categories.json", b"[]")
    found = dataset_of(section(tmp_path), keep_val=True).images
    assert rows_of(found)["train.csv#0"] == ("a", Split.POOL)
    assert [int((found.split == split).sum()) for split in Split] == [20, 4, 6]


def test_a_folder_without_a_table_to_train_on_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, "csv", questions()).rename(tmp_path / "test.csv")
    (line,) = problems_of(section(tmp_path))
    assert f"{tmp_path} is a folder; allowed: a table; a folder with a table for each" in line
    assert line.endswith("It holds 'test.csv'")


def test_one_split_in_two_formats_is_refused(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        write_table(tmp_path, kind, questions()).rename(tmp_path / f"train.{kind}")
    (line,) = problems_of(section(tmp_path))
    assert "holds tables of several kinds, '.csv', '.jsonl'; keep those of one" in line


def test_raw_quotation_marks_of_a_tsv_file_join_no_lines(tmp_path: Path) -> None:
    """As the SMS spam collection has them."""
    lines = [
        'ham\t"Gimme a few" was <time> ago',
        'ham\t"Yes, one opens here',
        "spam\tFree entry",
        'ham\tand it "closes" there"',
        'spam\t5" for free',
        'ham\t"',
        *(f"{'ham' if number % 2 else 'spam'}\tmessage {number}" for number in range(24)),
    ]
    path = write(tmp_path / "sms.tsv", "\n".join(["label\ttext", *lines]).encode())
    dataset = dataset_of(section(path))
    assert texts_of(dataset.images) == [line.partition("\t")[2] for line in lines]
    assert "sms.tsv: quotation marks are parts of the fields" in notes_of(dataset)


def test_raw_quotation_marks_that_would_close_join_no_lines(tmp_path: Path) -> None:
    lines = [f"{'ham' if number % 2 else 'spam'}\tmessage {number}" for number in range(24)]
    lines[3] = 'ham\t"one opens'
    lines[7] = 'ham\tone closes"'
    path = write(tmp_path / "sms.tsv", "\n".join(["label\ttext", *lines]).encode())
    assert len(dataset_of(section(path)).images) == 24


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_quoted_fields_of_several_lines_are_one_text(tmp_path: Path, delimiter: str) -> None:
    texts = [f'He said "{number}"{delimiter}\nthen left' for number in range(24)]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(
        [("text", "label"), *((text, "ab"[i % 2]) for i, text in enumerate(texts))]
    )
    path = write(tmp_path / "t.csv", out.getvalue().encode())
    dataset = dataset_of(section(path))
    assert texts_of(dataset.images) == texts
    assert "quotation marks" not in notes_of(dataset)


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\x0b", "\x1c"])
def test_characters_that_end_lines_elsewhere_split_no_row(tmp_path: Path, mark: str) -> None:
    texts = [f"one{mark}two {number}" for number in range(24)]
    rows = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts)]
    path = write(tmp_path / "t.csv", "\n".join(["text,label", *rows]).encode())
    assert texts_of(dataset_of(section(path)).images) == texts
    lines = [
        json.dumps({"text": text, "label": "ab"[i % 2]}, ensure_ascii=False)
        for i, text in enumerate(texts)
    ]
    path = write(tmp_path / "t.jsonl", "\n".join(lines).encode())
    assert texts_of(dataset_of(section(path)).images) == texts


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_texts_are_read_in_the_encoding_that_the_file_says(
    tmp_path: Path, kind: str, encoding: str
) -> None:
    rows = [{"text": f"Über {n} Öfen\x85?", "label": "äö"[n % 2]} for n in range(24)]
    if kind == "csv":
        text = "\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)])
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = text.replace("\x85", "") if encoding == "cp1252" else text
    path = write(tmp_path / f"t.{kind}", text.encode(encoding))
    marked = encoding in ("utf-8-sig", "utf-16")
    found = dataset_of(section(path, **({} if marked else {"encoding": encoding}))).images
    assert found.class_names == ("ä", "ö")
    assert texts_of(found)[3].startswith("Über 3 Öfen")


def test_bytes_in_another_encoding_are_told_with_line_and_position(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b"text,label\nfine,a\nna\xefve,b\n")
    (line,) = problems_of(section(path))
    assert line == (
        f"dataset.path: {path} cannot be decoded: byte 0xef at position 20 (line 3) is not utf-8; "
        "write its encoding, such as encoding: cp1252 or latin-1, or save it in UTF-8"
    )
    lines = problems_of(section(path, encoding="latin-7x"))
    assert lines[0].startswith("dataset.encoding: got 'latin-7x'; allowed: an encoding that Python")


def test_a_table_without_header_is_told_to_get_one(tmp_path: Path) -> None:
    rows = [f"{'ham' if n % 2 else 'spam'}\tText number {n}" for n in range(8)]
    path = write(tmp_path / "sms.tsv", "\n".join(rows).encode())
    (line,) = problems_of(section(path))
    assert line == (
        f"dataset.path: {path} begins with a row of a text, 'spam', 'Text number 0'; write a line "
        "with the names of the columns above it, such as text and label"
    )


def test_every_problem_of_the_rows_is_told_at_once(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        *questions(6),
        {"text": " ", "label": "a"},
        {"text": "x", "label": ""},
    ]
    path = write_table(tmp_path, "csv", [{**row, "split": "tset"} for row in rows])
    lines = problems_of(section(path, split_column="split", root=str(tmp_path), match="ending"))
    assert lines[0].startswith("dataset.text_column: rows with a blank value, counted from 0: '6'.")
    assert "dataset.split_column: got 'tset'; allowed: train, val" in "\n".join(lines)
    assert "dataset.label_column: rows without a value, counted from 0: '7'. Fill" in "\n".join(
        lines
    )
    for key in ("root", "match"):
        assert (
            f"dataset.{key}: is for images; leave it out, or leave out dataset.text_column" in lines
        )
    assert len(lines) == 5


def test_rows_of_several_files_are_told_with_their_file(tmp_path: Path) -> None:
    write_table(tmp_path, "csv", questions()).rename(tmp_path / "train.csv")
    bad: list[dict[str, object]] = [*questions(4), {"text": "", "label": "a"}]
    write_table(tmp_path, "csv", bad).rename(tmp_path / "test.csv")
    (line,) = problems_of(section(tmp_path))
    assert line.startswith(
        "dataset.text_column: test.csv: rows without a value, counted from 0: '4'"
    )


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("jsonl", '{"text": "a", "label": 1}\n{"text"', "line 2: Expecting ':' delimiter"),
        ("json", '[["a", "b"]]', "a row is a list; allowed: one object a line, or a list of"),
        ("json", '{"train": []}', "no column 'text'"),
        (
            "jsonl",
            '{"text": "a", "label": 1}\n{"text": "b", "label": "x"}',
            "column 'label' holds values of several types: int, str",
        ),
    ],
)
def test_json_that_holds_no_rows_is_told(
    tmp_path: Path, kind: str, content: str, told: str
) -> None:
    lines = problems_of(section(write(tmp_path / f"t.{kind}", content.encode())))
    assert any(told in line for line in lines)


def test_a_saved_data_set_that_is_not_whole_is_told(tmp_path: Path) -> None:
    write(tmp_path / "set" / "state.json", b"{}")
    (line,) = problems_of(section(tmp_path / "set"))
    assert line.endswith("cannot be read: state.json has no '_data_files'")


def test_copies_are_one_group_and_stay_on_one_side(tmp_path: Path) -> None:
    rows = questions(40)
    copies = [{**row, "text": f" {str(row['text']).upper()}\u3000"} for row in rows[:20]]
    dataset = dataset_of(section(write_table(tmp_path, "jsonl", [*rows, *copies]), test=0.5))
    found = dataset.images
    assert found.groups is not None
    assert found.groups[:20].tolist() == found.groups[40:].tolist()
    assert len(np.unique(found.groups)) == 40
    assert found.split[:20].tolist() == found.split[40:].tolist()
    assert set(found.split.tolist()) == {Split.POOL, Split.TEST}
    assert "copies of other texts: 20" in notes_of(dataset)


def test_the_side_of_a_text_does_not_depend_on_its_copies(tmp_path: Path) -> None:
    rows = questions(40)
    alone = dataset_of(section(write_table(tmp_path / "a", "csv", rows), test=0.5)).images
    path = write_table(tmp_path / "b", "csv", [*rows, *rows[:10]])
    assert dataset_of(section(path, test=0.5)).images.split[:40].tolist() == alone.split.tolist()


def test_one_text_with_two_labels_is_listed(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        *questions(8),
        {"text": "question 0, asked by somebody?", "label": "b"},
    ]
    dataset = dataset_of(section(write_table(tmp_path, "csv", rows)))
    told = notes_of(dataset)
    assert "texts with copies in another class: 1" in told
    assert "'Question 0, asked by somebody?': 'rows.csv#0' = 'rows.csv#8': 'a', 'b'" in told


def test_copies_on_both_sides_of_the_datas_own_split_are_noted_or_refused(tmp_path: Path) -> None:
    rows = [
        {**row, "split": "test" if number % 2 else "train"}
        for number, row in enumerate(questions(400, labels=["a", "a", "b", "b"]))
    ]
    few = [*rows, {**rows[1], "split": "train"}]
    path = write_table(tmp_path / "few", "csv", few)
    assert "test texts with copies outside the test split: 1" in notes_of(
        dataset_of(section(path, split_column="split"))
    )
    many = [*rows, *({**row, "split": "train"} for row in rows[1:8:2])]
    path = write_table(tmp_path / "many", "csv", many)
    (line,) = problems_of(section(path, split_column="split"))
    assert "4 of 200 test texts are copies of texts outside the test split; allowed: 1%" in line


def space(**dataset: Any) -> Any:
    return build_space(
        {
            "name": "texts",
            "dataset": {"source": "table", "path": "/t.csv", **dataset},
            "search": {"backbone": "tiny_strokes", "label_budget": [2]},
        }
    )


def test_keys_of_images_are_no_part_of_what_a_space_of_texts_says() -> None:
    found = space(text_column="text", encoding="latin-1")
    written = found.to_json()["dataset"]
    assert written == {
        "source": "table",
        "path": "/t.csv",
        "text_column": "text",
        "label_column": "label",
        "encoding": "latin-1",
        "max_bad_fraction": 0.01,
    }
    assert build_space(found.to_json()) == found
    assert "text_column" not in space().to_json()["dataset"]


def test_pairs_of_texts_are_told_not_to_be_there_yet() -> None:
    with pytest.raises(
        SpaceError, match=r"text_column: got \['a', 'b'\]; .*pairs of texts are not supported yet"
    ):
        space(text_column=["a", "b"])
