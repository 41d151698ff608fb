import os
from pathlib import Path

import pytest

from orchestrator.datasets.sections import FolderSection
from tests.orchestrator.datasets.conftest import (
    FORMATS,
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    rows_of,
    write,
    write_digits,
)
from trainable.data.labelled_examples import Split


def section(path: Path, **options: object) -> FolderSection:
    return FolderSection.model_validate({"path": str(path), **options})


def test_a_folder_is_a_class_and_a_file_an_image_of_it(digits_folder: Path) -> None:
    images = dataset_of(section(digits_folder)).images
    assert images.class_names == ("0", "1")
    assert len(images) == 40
    for row, path in enumerate(images.paths):
        assert path.split("/")[0] == images.class_names[images.labels[row]]
        assert images.encoded(row) == (digits_folder / path).read_bytes()


def test_every_format_of_pillow_is_taken_whatever_the_case_of_its_suffix(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number, suffix in enumerate(FORMATS):
            name = f"{number}{suffix.upper() if label == 'b' else suffix}"
            write(tmp_path / label / name, encoded(number + 10 * (label == "b"), suffix))
    images = dataset_of(section(tmp_path)).images
    assert len(images) == 2 * len(FORMATS)


def test_images_in_folders_below_a_class_belong_to_it(digits_folder: Path) -> None:
    write(digits_folder / "1" / "more" / "deep" / "x.png", encoded(1700))
    rows = rows_of(dataset_of(section(digits_folder)).images)
    assert rows["1/more/deep/x.png"][0] == "1"


def test_names_of_classes_are_text_whatever_they_say(tmp_path: Path) -> None:
    names = ["no", "1", "01", "<b>x", 'a "b"', "two\nlines", "=cmd()", "é", "null"]
    for number, name in enumerate(names):
        for copy in range(6):
            write(tmp_path / name / f"{copy}.png", encoded(10 * number + copy))
    images = dataset_of(section(tmp_path)).images
    assert images.class_names == tuple(sorted(names))


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_splits_of_folders_are_kept_and_val_joins_the_pool(tmp_path: Path, val: str) -> None:
    for number, split in enumerate(("train", val, "test")):
        write_digits(tmp_path / split, per_class=4, start=4 * number)
    dataset = dataset_of(section(tmp_path))
    counts = [list(dataset.images.split).count(split) for split in Split]
    assert counts == [16, 0, 8]
    assert "test split: the data's own, 8 images" in notes_of(dataset)
    assert "the data's own val split, 8 images, joins the pool" in notes_of(dataset)
    assert rows_of(dataset.images)["train/0/0000.png"] == ("0", Split.POOL)

    kept = dataset_of(section(tmp_path), keep_val=True).images
    assert [list(kept.split).count(split) for split in Split] == [8, 8, 8]


def test_train_and_val_without_test_draw_the_test_split(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", per_class=20)
    write_digits(tmp_path / "val", per_class=20, start=20)
    images = dataset_of(section(tmp_path, test=0.3)).images
    test = {path.split("/")[0] for path, row in rows_of(images).items() if row[1] is Split.TEST}
    assert test == {"train", "val"}
    kept = dataset_of(section(tmp_path, test=0.3), keep_val=True).images
    assert {path.split("/")[0] for path, row in rows_of(kept).items() if row[1] is Split.TEST} == {
        "train"
    }


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=6)
    (tmp_path / "1").rename(tmp_path / "test")
    assert dataset_of(section(tmp_path)).images.class_names == ("0", "test")


def test_hidden_files_are_passed_over_in_silence_and_others_are_counted(
    digits_folder: Path,
) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0001.png"):
        write(digits_folder / "0" / name, b"x")
    write(digits_folder / ".git" / "x.png", encoded(3))
    write(digits_folder / "__MACOSX" / "x.png", encoded(3))
    clean = notes_of(dataset_of(section(digits_folder)))
    assert "no images" not in clean
    write(digits_folder / "0" / "notes.txt", b"x")
    write(digits_folder / "1" / "README", b"x")
    dataset = dataset_of(section(digits_folder))
    assert len(dataset.images) == 40
    notes = notes_of(dataset)
    assert "files that are no images by their names: 2 (1 .txt, 1 without suffix)\n" in notes
    assert "\n  0/notes.txt\n  1/README" in notes


def test_group_is_the_first_group_of_the_expression_or_all_it_matches(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(24):
            name = f"patient{number // 3}_{number}.png"
            write(tmp_path / label / name, encoded(number + 50 * (label == "b")))
    for pattern in (r"patient(\d+)_", r"patient\d+"):
        images = dataset_of(section(tmp_path, group=pattern, test=0.4)).images
        assert images.groups is not None
        assert len(set(images.groups.tolist())) == 8
        by_patient: dict[str, set[tuple[int, int]]] = {}
        for path, group, split in zip(images.paths, images.groups, images.split, strict=True):
            by_patient.setdefault(path.split("/")[1].split("_")[0], set()).add((group, split))
        assert all(len(places) == 1 for places in by_patient.values())
        assert len(set(images.split.tolist())) == 2


def test_a_path_that_the_expression_does_not_match_is_a_problem(digits_folder: Path) -> None:
    (line,) = problems_of(section(digits_folder, group=r"0/(\d+)"))
    assert line.startswith(r"dataset.group: got '0/(\\d+)', which gives 20 of 40 images no group: ")


def test_what_is_no_folder_of_class_folders_says_what_is_due(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", b"x")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "flat" / "a.png", encoded(0))
    for path, reason in (
        (tmp_path / "none", "no such folder"),
        (file, "is a file (for a table: source: table); allowed: a folder"),
        (tmp_path / "empty", "is empty; allowed: one folder a class"),
        (tmp_path / "flat", "holds 'a.png', but no folders; allowed: one folder a class"),
    ):
        (line,) = problems_of(section(path))
        assert line.startswith(f"dataset.path: {path}")
        assert reason in line


def test_every_problem_of_a_folder_is_told_at_once(tmp_path: Path) -> None:
    write_digits(tmp_path / "root", per_class=6)
    (tmp_path / "root" / "nothing").mkdir()
    outside = write(tmp_path / "outside.png", encoded(7))
    (tmp_path / "root" / "0" / "link.png").symlink_to(outside)
    lines = problems_of(section(tmp_path / "root", group="x"))
    assert [line.split(":")[0] for line in lines] == ["dataset.path"] * 2 + ["dataset.group"]
    assert "links that lead out of the folder (1): '0/link.png'; to read what" in lines[0]
    assert "no image in: 'nothing'" in lines[1]


def test_splits_beside_classes_are_ambiguous(tmp_path: Path) -> None:
    for name in ("train", "test", "cat"):
        write_digits(tmp_path / name, per_class=2)
    (line,) = problems_of(section(tmp_path))
    assert "holds 'test', 'train' beside 'cat', which may be splits or classes. If" in line


def classes_in(root: Path, *tops: str, start: int = 0) -> None:
    """The same two classes, with images of their own, in each folder."""
    for number, top in enumerate(tops):
        write_digits(root / top, per_class=6, start=start + 12 * number)


@pytest.mark.parametrize(
    "tops",
    [
        ("training_set", "test_set"),
        ("Trainset", "Testset"),
        ("seg_train", "seg_test", "seg_pred"),
        ("a", "b"),
        ("lernen", "pr\u00fcfen"),
        ("train", "holdout"),
        ("train2017", "extra"),
    ],
)
def test_folders_with_the_same_class_folders_inside_may_be_splits(
    tmp_path: Path, tops: tuple[str, ...]
) -> None:
    classes_in(tmp_path, *tops)
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.path: ")
    assert "call them train, val and test; if they are classes, say dataset.layout: cl" in line
    assert dataset_of(section(tmp_path, layout="classes")).images.class_names == (*sorted(tops),)


def test_folders_inside_may_differ_a_little_and_still_be_classes_of_splits(tmp_path: Path) -> None:
    for number, (top, names) in enumerate({"x": "abcd", "y": "ABCe", "z": "a"}.items()):
        for place, name in enumerate(names):
            write(tmp_path / top / name / "i.png", encoded(10 * number + place))
    (line,) = problems_of(section(tmp_path))
    assert "the images of 'x', 'y' all lie in folders of the same names ('a', 'b', 'c'). If" in line


def test_a_split_with_class_folders_beside_flat_folders_is_ambiguous(tmp_path: Path) -> None:
    classes_in(tmp_path, "train")
    write(tmp_path / "unseen" / "a.png", encoded(90))
    (line,) = problems_of(section(tmp_path))
    assert "holds 'train', whose images all lie in folders, beside 'unseen'. If they" in line


@pytest.mark.parametrize("inner", [("images", "images"), ("2019", "2020"), ("", "masks")])
def test_classes_with_folders_inside_are_classes(tmp_path: Path, inner: tuple[str, str]) -> None:
    for number, (name, folder) in enumerate(zip(("cat", "dog"), inner, strict=True)):
        for place in range(6):
            write(tmp_path / name / folder / f"{place}.png", encoded(10 * number + place))
    assert dataset_of(section(tmp_path)).images.class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["test", "Validation", "test_images"])
def test_a_flat_folder_called_like_a_split_is_told_to_be_read_as_a_class(
    tmp_path: Path, name: str
) -> None:
    for number, top in enumerate(("cat", "dog", name)):
        for place in range(6):
            write(tmp_path / top / f"{place}.png", encoded(10 * number + place))
    dataset = dataset_of(section(tmp_path))
    assert set(dataset.images.class_names) == {"cat", "dog", name}
    told = f"read as classes, like the folders beside them: '{name}'. To make a folder of these a"
    assert told in notes_of(dataset)
    assert told not in notes_of(dataset_of(section(tmp_path, layout="classes")))


def test_vehicles_and_glassware_are_no_splits(tmp_path: Path) -> None:
    for kinds in (("bus", "train"), ("flask", "test_tube", "training_flask")):
        root = tmp_path / kinds[0]
        for number, name in enumerate(kinds):
            for place in range(6):
                write(root / name / f"{place}.png", encoded(10 * number + place))
        assert dataset_of(section(root)).images.class_names == kinds


def test_folders_called_splits_are_classes_where_the_file_says_so(tmp_path: Path) -> None:
    classes_in(tmp_path, "train", "test")
    assert dataset_of(section(tmp_path)).images.class_names == ("0", "1")
    images = dataset_of(section(tmp_path, layout="classes")).images
    assert images.class_names == ("test", "train")


def test_a_split_without_class_folders_is_named(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", per_class=4)
    write(tmp_path / "test" / "a.png", encoded(9))
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.path: 'test' holds no class folders; allowed: one folder a c")
    assert line.endswith("Where these have no labels, move it out of the folder")
    (tmp_path / "test").rename(tmp_path.parent / f"{tmp_path.name}-unlabelled")
    assert dataset_of(section(tmp_path, test=0.5)).images.class_names == ("0", "1")


@pytest.mark.parametrize("to", ["class", "root"])
def test_links_to_folders_outside_are_refused(tmp_path: Path, to: str) -> None:
    write_digits(tmp_path / "root", per_class=4)
    write_digits(tmp_path / "other", per_class=4, start=4)
    link = tmp_path / "root" / ("2" if to == "class" else "0/more")
    link.symlink_to(tmp_path / "other" / "0", target_is_directory=True)
    (line, *_) = problems_of(section(tmp_path / "root"))
    assert "links that lead out of the folder" in line


def test_links_inside_are_followed_and_a_loop_of_them_ends(digits_folder: Path) -> None:
    (digits_folder / "0" / "loop").symlink_to(digits_folder / "0", target_is_directory=True)
    (digits_folder / "0" / "dead.png").symlink_to(digits_folder / "0" / "nowhere.png")
    write(digits_folder / ".hidden" / "x.png", encoded(1700))
    (digits_folder / "1" / "x.png").symlink_to(digits_folder / ".hidden" / "x.png")
    dataset = dataset_of(section(digits_folder, max_bad_fraction=0.05))
    images = dataset.images
    assert "links to files that are not there, left out: 1\n  0/dead.png" in notes_of(dataset)
    assert len(images) == 41
    assert "1/x.png" in images.paths


def test_a_root_that_is_a_link_is_fine(digits_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(digits_folder, target_is_directory=True)
    assert len(dataset_of(section(tmp_path / "link")).images) == 40


def test_names_that_no_table_could_hold_are_refused(digits_folder: Path) -> None:
    odd = os.fsencode(digits_folder / "0") + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes(encoded(1700))
    (line,) = problems_of(section(digits_folder))
    assert line.startswith("dataset.path: names that are no UTF-8: ")


def linked(root: Path, store: Path) -> Path:
    """A folder with links, below `root`, to every file below `store`, under the same names."""
    for path in sorted(store.rglob("*.png")):
        link = root / path.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return root


def test_links_to_files_outside_are_read_where_the_file_says_so(
    digits_folder: Path, tmp_path: Path
) -> None:
    root = linked(tmp_path / "snapshot", digits_folder)
    (line,) = problems_of(section(root))
    assert "links that lead out of the folder (40): '0/0000.png', " in line
    assert line.endswith("; to read what they lead to, say dataset.links: follow")
    images = dataset_of(section(root, links="follow")).images
    plain = dataset_of(section(digits_folder)).images
    assert images.paths == plain.paths
    assert images.fingerprint() == plain.fingerprint()


def test_links_to_folders_outside_are_followed_and_those_to_folders_around_end(
    digits_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("0", "1"):
        (root / name).symlink_to(digits_folder / name, target_is_directory=True)
    (digits_folder / "0" / "around").symlink_to(tmp_path, target_is_directory=True)
    (digits_folder / "0" / "again").symlink_to(digits_folder / "0", target_is_directory=True)
    (digits_folder / "0" / "itself").symlink_to("itself")
    dataset = dataset_of(section(root, links="follow"))
    assert len(dataset.images) == 40
    assert "links to folders around this one, not followed: 1\n  0/around" in notes_of(dataset)


@pytest.mark.parametrize("links", [None, "follow"])
def test_links_to_files_that_are_not_there_are_counted(
    digits_folder: Path, tmp_path: Path, links: str | None
) -> None:
    root = linked(tmp_path / "snapshot", digits_folder)
    for path in (digits_folder / "0").iterdir():
        path.unlink()
    line = problems_of(section(root, links=links))[-1]
    assert line.startswith(
        "dataset.path: 20 of 40 images are links to files that are not there: '0/0000.png', "
    )
    assert line.endswith("; fetch them (git annex get, dvc pull), or take the links away")


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["0/a.dcm", "1/b.dcm"], "2 .dcm"),
        (["0/a.NPY", "0/b.npy", "1/c"], "2 .npy, 1 without suffix"),
        (["0/a.tar.gz", "1/deep/b.raw"], "1 .gz, 1 .raw"),
    ],
)
def test_kinds_of_files_that_are_not_read_are_counted(
    tmp_path: Path, names: list[str], kinds: str
) -> None:
    for name in names:
        write(tmp_path / name, b"x")
    (line,) = problems_of(section(tmp_path))
    assert f"no image in: '0', '1'; the files there ({kinds}) are not read: convert" in line


@pytest.mark.parametrize("down", ["photos", "a/photos", "data"])
@pytest.mark.parametrize("places", [("",), ("train", "test")])
def test_class_folders_that_lie_deeper_are_named(
    tmp_path: Path, down: str, places: tuple[str, ...]
) -> None:
    for number, place in enumerate(places):
        write_digits(tmp_path / down / place, per_class=10, start=10 * number)
    write(tmp_path / "code" / "a.py", b"x")
    (line,) = problems_of(section(tmp_path))
    assert f"all images lie in '{down}', in the folders " in line
    assert line.endswith(f"say dataset.path: {tmp_path / down}")
    assert len(dataset_of(section(tmp_path / down)).images) == 20 * len(places)


@pytest.mark.parametrize("inner", ["", "more"])
def test_a_class_folder_names_the_folder_of_class_folders(digits_folder: Path, inner: str) -> None:
    if inner:
        write(digits_folder / "0" / inner / "x.png", encoded(1700))
    (line,) = problems_of(section(digits_folder / "0"))
    assert f"{digits_folder} holds '0', '1' with images; if these are the classes, say" in line
    assert line.endswith(f"dataset.path: {digits_folder}")


def test_images_without_class_folders_name_the_table_beside_them(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=1)
    table = write(tmp_path / "labels.csv", b"path,label\n")
    (line,) = problems_of(section(tmp_path))
    assert line.endswith(f"say dataset: {{source: table, path: {table}}}")


def test_images_beside_class_folders_are_noted(digits_folder: Path) -> None:
    write(digits_folder / "cover.png", encoded(1700))
    notes = notes_of(dataset_of(section(digits_folder)))
    assert "images beside the class folders, left out: 1\n  cover.png" in notes
