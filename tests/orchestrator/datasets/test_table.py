import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.datasets.delimited_table import delimiter_of
from orchestrator.datasets.files import Root
from orchestrator.datasets.path_suffixes import PathsBySuffix
from orchestrator.datasets.sections import TableSection
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    rows_of,
    write,
)
from trainable.data.labelled_examples import Split

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
    assert f"dataset.path_column: 3 of 32 lie outside {root}: '../secret.png', " in text
    assert (
        f"2 of 32 lead through links out of {root}: 'link.png', 'out/secret.png'; to read what "
        "they lead to, say dataset.links: follow"
    ) in text
    assert "1 of 32 are missing: 'none.png'" in text
    assert "1 of 32 are no files: 'images'" in text
    assert "paths in several rows, though an image has one label: 'images/000.png'" in text
    assert (
        "dataset.label_column: rows without a value, counted from 0: '29'. Fill them in, or" in text
    )
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
        (tmp_path, "is a folder; allowed: a table; a folder with a table for each split"),
        (
            write(tmp_path / "labels.xlsx", b"PK"),
            "allowed: .csv, .tsv, .txt, .jsonl, .json or .parquet (save s",
        ),
        (rowless, "has no rows"),
        (ragged, "cannot be read: CSV parse error"),
        (latin, "cannot be decoded: byte 0xe9 at position 17 (line 2) is not utf-8; write"),
        (torn, "cannot be read: "),
        (write(tmp_path / "empty.csv", b""), "cannot be read: Empty CSV file"),
    ):
        (line,) = problems_of(section(path))
        assert line.startswith("dataset.path: ")
        assert reason in line


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("names", [["path", "label"], ["file", "species"]])
def test_a_table_without_header_is_told_to_get_one(
    tmp_path: Path, kind: str, names: list[str]
) -> None:
    path = write_table(tmp_path, kind, rows=labelled())
    _, rows = path.read_text().split("\n", 1)
    path.write_text(rows)
    keys = {"path_column": names[0], "label_column": names[1]}
    (line,) = problems_of(section(path, **keys))
    assert "begins with a row of an image, 'images/000.png', 'no'; write a line with the" in line
    path.write_text(("\t" if kind == "tsv" else ",").join(names) + "\n" + rows)
    assert len(dataset_of(section(path, **keys)).images) == 24


def test_a_column_that_is_called_like_an_image_is_one_of_others(tmp_path: Path) -> None:
    rows = [{**row, "mask.png": "no"} for row in labelled()]
    assert len(dataset_of(section(write_table(tmp_path, rows=rows))).images) == 24


def test_a_column_with_blanks_around_its_name_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"path": ["a.png"], " label": ["x"]}).to_parquet(path)
    (line,) = problems_of(section(path))
    assert line.endswith("; did you mean ' label'?")


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.parquet"])
@pytest.mark.parametrize(
    ("pointer", "command"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s9--ab.csv\n", "git annex get"),
    ],
)
def test_a_table_that_was_not_fetched_says_so(
    tmp_path: Path, name: str, pointer: bytes, command: str
) -> None:
    (line,) = problems_of(section(write(tmp_path / name, pointer)))
    assert line.endswith(f"{name} stands for a file that is not here; fetch it with {command}")


def test_a_root_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    path = write_table(tmp_path, rows=labelled())
    (line,) = problems_of(section(path, root=str(tmp_path / "none")))
    assert line == f"dataset.root: {tmp_path / 'none'}: no such folder"


def test_a_byte_order_mark_of_a_spreadsheet_is_no_part_of_a_column(tmp_path: Path) -> None:
    path = write_table(tmp_path, rows=labelled())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(dataset_of(section(path)).images) == 24


DELIMITED = [
    ("csv", ";", "utf-8"),
    ("csv", "\t", "utf-8-sig"),
    ("txt", "|", "utf-8"),
    ("tsv", ",", "utf-8"),
    ("csv", ";", "utf-8-sig"),
    ("txt", "\t", "utf-16"),
]


def write_delimited(
    path: Path, *, delimiter: str, encoding: str = "utf-8", start: str = ""
) -> Path:
    """A table of 24 images whose names, labels and notes hold whatever else may separate fields."""
    with path.open("w", newline="", encoding=encoding) as file:
        file.write(start)
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["label", "note", "path"])
        for number in range(24):
            name = f"a,b;c|d {number}.png"
            write(path.parent / name, encoded(number))
            writer.writerow([f"x;{number % 2},y", 'a "long"\nnote, really; so\tlong', name])
    return path


@pytest.mark.parametrize(("kind", "delimiter", "encoding"), DELIMITED)
def test_what_separates_fields_is_found_out(
    tmp_path: Path, kind: str, delimiter: str, encoding: str
) -> None:
    path = write_delimited(tmp_path / f"t.{kind}", delimiter=delimiter, encoding=encoding)
    images = dataset_of(section(path)).images
    assert images.class_names == ("x;0,y", "x;1,y")
    assert "a,b;c|d 5.png" in images.paths


def test_a_spreadsheets_line_about_the_separator_is_followed(tmp_path: Path) -> None:
    path = write_delimited(tmp_path / "t.csv", delimiter=";", start="sep=;\r\n")
    assert len(dataset_of(section(path)).images) == 24


def test_columns_of_a_table_with_semicolons_are_named_where_one_lacks(tmp_path: Path) -> None:
    path = write_delimited(tmp_path / "t.csv", delimiter=";")
    (line,) = problems_of(section(path, label_column="lable"))
    assert line.endswith("columns: 'label', 'note', 'path'; did you mean label?")


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("path,label\na,b", ("path", "label"), ","),
        ("a;b,c\n1;2,3\n", (), ","),
        ("a;b,c\n1;2,3,4\n", (), ";"),
        ("a;b,c\n1;2,3\n", ("a",), ";"),
        ("alone\nx\n", ("alone",), ","),
        ("", (), ","),
    ],
)
def test_the_delimiter_is_what_makes_wanted_columns_and_equal_rows(
    text: str, wanted: tuple[str, ...], found: str
) -> None:
    assert delimiter_of(text, wanted=wanted) == found


def moved(root: Path, at: str, paths: Sequence[str]) -> TableSection:
    """24 images in `images/` of a folder, and at `at` a table with these paths of them."""
    root.mkdir(exist_ok=True)
    for number in range(24):
        write(root / "images" / f"i{number:02d}.png", encoded(number))
    path = root / at
    path.parent.mkdir(exist_ok=True)
    rows = [{"path": one, "label": "ab"[number % 2]} for number, one in enumerate(paths)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return section(path)


def named(pattern: str) -> list[str]:
    return [pattern.format(number) for number in range(24)]


@pytest.mark.parametrize(
    ("pattern", "note"),
    [
        ("images\\i{:02d}.png", "backslashes, taken for slashes: 24, such as 'images/i00.png'"),
        (".\\images\\i{:02d}", "backslashes, taken for slashes: 24, such as 'images/i00.png'"),
        ("images/i{:02d}", "without the suffix of their files, or with another: 24, such as"),
        ("images/i{:02d}.dcm", "'images/i00.png' for 'images/i00.dcm'"),
    ],
)
def test_paths_that_can_mean_one_file_alone_are_read_as_that(
    tmp_path: Path, pattern: str, note: str
) -> None:
    dataset = dataset_of(moved(tmp_path, "t.csv", named(pattern)))
    assert set(dataset.images.paths) == set(named("images/i{:02d}.png"))
    assert note in notes_of(dataset)


def test_a_path_without_suffix_that_fits_two_images_is_missing(tmp_path: Path) -> None:
    found = moved(tmp_path, "t.csv", named("images/i{:02d}"))
    write(tmp_path / "images" / "i03.jpg", encoded(30, ".jpg"))
    (line,) = problems_of(found)
    assert line == (
        "dataset.path_column: 1 of 24 are missing: 'images/i03'; there are several files for one "
        "path: 'i03.jpg', 'i03.png' for 'images/i03'"
    )


@pytest.mark.parametrize(
    ("at", "pattern", "keys"),
    [
        ("meta/t.csv", "images/i{:02d}.png", {"root": ""}),
        ("meta/t.csv", "i{:02d}.png", {"root": "images"}),
        ("meta/t.csv", "images\\i{:02d}", {"root": ""}),
        ("meta/t.csv", "../images/i{:02d}.png", {"root": "images"}),
        ("t.csv", "i{:02d}.png", {"root": "images"}),
        ("t.csv", "i{:02d}", {"root": "images"}),
        ("t.csv", "photos/images/i{:02d}.png", {"match": "ending"}),
        ("t.csv", "/home/bob/data/images/i{:02d}.png", {"match": "ending"}),
        ("t.csv", "C:\\bob\\images\\i{:02d}.png", {"match": "ending"}),
        ("t.csv", "file:///data/i{:02d}.jpg", {"match": "ending"}),
        ("meta/t.csv", "/home/bob/images/i{:02d}.png", {"root": "images", "match": "ending"}),
    ],
)
def test_the_keys_that_a_message_names_make_the_paths_work(
    tmp_path: Path, at: str, pattern: str, keys: dict[str, str]
) -> None:
    home = tmp_path / "data"
    home.mkdir()
    (line,) = problems_of(moved(home, at, named(pattern)))
    if "root" in keys:
        keys = {**keys, "root": str(home / keys["root"])}
    said = " and ".join(f"dataset.{key}: {value}" for key, value in keys.items())
    assert f"; with {said}, 24 of 24 would lead to files" in line
    assert len(dataset_of(section(home / at, **keys)).images) == 24


def test_files_in_several_folders_are_matched_by_the_ends_of_their_paths(tmp_path: Path) -> None:
    for number in range(24):
        write(tmp_path / f"part{number % 3}" / f"i{number:02d}.png", encoded(number + 24))
    path = tmp_path / "t.csv"
    rows = [{"path": f"i{number:02d}", "label": number % 2} for number in range(24)]
    pd.DataFrame(rows).to_csv(path, index=False)
    (line,) = problems_of(section(path))
    assert "with dataset.match: ending, 24 of 24 would lead to files" in line
    images = dataset_of(section(path, match="ending")).images
    assert "part2/i05.png" in images.paths


def test_the_longest_end_decides_and_a_tie_does_not(tmp_path: Path) -> None:
    for place in ("a/x/1.png", "b/x/1.png", "b/y/1.png", "c/2.png"):
        write(tmp_path / place, b"x")
    endings = PathsBySuffix(Root(tmp_path))
    assert endings.find("/home/bob/a/x/1.png") == "a/x/1.png"
    assert endings.find("/home/bob/y/1.png") == "b/y/1.png"
    assert endings.find("/home/bob/x/1.png") is None
    assert endings.find("1.png") is None
    assert endings.find("z/2") == "c/2.png"
    assert endings.find("3.png") is None


def test_where_most_paths_lead_to_files_nothing_else_is_read(tmp_path: Path) -> None:
    paths = [*named("images/i{:02d}.png")[:20], *named("images\\i{:02d}.png")[20:]]
    (line,) = problems_of(moved(tmp_path, "t.csv", paths))
    assert line.startswith("dataset.path_column: 4 of 24 are missing: ")
    assert "there are files that look alike: 'images/i20.png' for 'images\\\\i20.png'" in line


def written(tmp_path: Path, text: str) -> TableSection:
    """A table of this text, and six images `i0.png` to `i5.png` beside it."""
    for number in range(6):
        write(tmp_path / f"i{number}.png", encoded(number))
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return section(tmp_path / "t.csv")


@pytest.mark.parametrize("separator", [", ", " , ", ";  ", "\t "])
def test_blanks_around_the_fields_of_a_text_file_are_no_part_of_them(
    tmp_path: Path, separator: str
) -> None:
    rows = [("label", "path"), *(("cat" if n % 2 else "ox", f"i{n}.png") for n in range(6))]
    dataset = dataset_of(written(tmp_path, "\n".join(map(separator.join, rows))))
    assert dataset.images.class_names == ("cat", "ox")
    assert set(dataset.images.paths) == {f"i{number}.png" for number in range(6)}
    assert "blanks around paths, taken off: 6, such as 'i0.png' for " in notes_of(dataset)


def test_blanks_around_labels_and_groups_are_noted(tmp_path: Path) -> None:
    rows = [f"i{n}.png, {'ab'[n % 2]},{' ' * (n % 2)}p{n // 2}" for n in range(6)]
    found = written(tmp_path, "\n".join(["path, label,patient", *rows]))
    dataset = dataset_of(found.model_copy(update={"group": "patient"}))
    assert dataset.images.class_names == ("a", "b")
    assert dataset.images.groups is not None
    assert len(set(dataset.images.groups.tolist())) == 3
    told = notes_of(dataset)
    assert "blanks around values of column 'label', taken off: such as ' a'" in told
    assert "blanks around values of column 'patient', taken off: such as ' p0'" in told


def test_labels_that_differ_by_blanks_alone_are_refused(tmp_path: Path) -> None:
    rows = [f"i{n}.png,{' ' * (n == 5)}{'ab'[n % 2]}" for n in range(6)]
    line, *_ = problems_of(written(tmp_path, "\n".join(["path,label", *rows])))
    assert line.startswith("dataset: class names that look alike: ' b', 'b'")


def test_two_columns_whose_names_differ_by_blanks_are_several(tmp_path: Path) -> None:
    rows = [f"i{n}.png,a,b" for n in range(6)]
    (line,) = problems_of(written(tmp_path, "\n".join(["path,label, label", *rows])))
    assert "has several columns 'label'" in line


PUT_OR_DROP = (
    "put them into {} and name them by their paths in it, or take their rows out of the table"
)


@pytest.mark.parametrize(
    ("num_missing", "advice"),
    [
        (1, PUT_OR_DROP),
        (11, PUT_OR_DROP),
        (24, "images are looked for in {}; name another folder in dataset.root"),
    ],
)
def test_what_to_do_about_missing_images_is_told_however_few_they_are(
    tmp_path: Path, num_missing: int, advice: str
) -> None:
    missing = [f"gone/g{number:02d}.png" for number in range(num_missing)]
    paths = [*named("images/i{:02d}.png")[num_missing:], *missing]
    (line,) = problems_of(moved(tmp_path, "t.csv", paths))
    assert f"{num_missing} of 24 are missing: 'gone/g00.png'" in line
    assert line.endswith(advice.format(tmp_path))


def test_a_folder_that_holds_the_few_that_are_missing_too_is_named(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    moved(old, "t.csv", named("images/i{:02d}.png"))
    found = moved(new, "t.csv", named("images/i{:02d}.png"))
    for number in range(5):
        (new / "images" / f"i{number:02d}.png").unlink()
    (line,) = problems_of(found)
    assert "5 of 24 are missing: 'images/i00.png'" in line
    assert line.endswith(f"; with dataset.root: {old}, 24 of 24 would lead to files")


def test_a_missing_image_is_not_looked_for_under_its_name_elsewhere(tmp_path: Path) -> None:
    found = moved(tmp_path, "t.csv", [*named("images/i{:02d}.png")[:23], "images/x.png"])
    write(tmp_path / "other" / "x.png", encoded(30))
    (line,) = problems_of(found)
    assert "match" not in line


def test_links_of_a_table_are_followed_where_the_file_says_so(tmp_path: Path) -> None:
    plain = dataset_of(moved(tmp_path / "plain", "t.csv", named("images/i{:02d}.png")))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "images").symlink_to(tmp_path / "plain" / "images")
    (snapshot / "t.csv").symlink_to(tmp_path / "plain" / "t.csv")
    (line,) = problems_of(section(snapshot / "t.csv"))
    assert line.endswith("; to read what they lead to, say dataset.links: follow")
    images = dataset_of(section(snapshot / "t.csv", links="follow")).images
    assert images.fingerprint() == plain.images.fingerprint()


def test_dead_links_of_a_table_are_counted(tmp_path: Path) -> None:
    found = moved(tmp_path, "t.csv", named("images/i{:02d}.png"))
    for number in range(3):
        (tmp_path / "images" / f"i{number:02d}.png").unlink()
        (tmp_path / "images" / f"i{number:02d}.png").symlink_to("nowhere")
    (line,) = problems_of(found)
    assert "3 of 24 are links to files that are not there: 'images/i00.png', " in line
    assert line.endswith("; fetch them (git annex get, dvc pull), or take the links away")


def test_links_are_among_the_keys_that_a_message_names(tmp_path: Path) -> None:
    moved(tmp_path / "plain", "t.csv", named("/home/bob/images/i{:02d}.png"))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "images").symlink_to(tmp_path / "plain" / "images")
    (snapshot / "t.csv").symlink_to(tmp_path / "plain" / "t.csv")
    (line,) = problems_of(section(snapshot / "t.csv"))
    assert "with dataset.match: ending and dataset.links: follow, 24 of 24 would lead to" in line
    assert len(dataset_of(section(snapshot / "t.csv", match="ending", links="follow")).images) == 24
