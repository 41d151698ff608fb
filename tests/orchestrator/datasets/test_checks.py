from pathlib import Path

import pytest

from orchestrator.datasets.sections import FolderSection
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    write,
    write_digits,
)
from trainable.data.labelled_examples import Split


def section(path: Path, **options: object) -> FolderSection:
    return FolderSection.model_validate({"path": str(path), **options})


def test_a_single_class_has_nothing_to_be_told_from(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=1)
    (line,) = problems_of(section(tmp_path))
    assert line == "dataset: the only class is '0'; allowed: 2 classes or more"


def test_classes_with_one_image_and_names_that_look_alike_are_all_named(
    tmp_path: Path,
) -> None:
    write_digits(tmp_path)
    for number, name in enumerate(("Cat", "cat", "dog")):
        write(tmp_path / name / "a.png", encoded(100 + number))
        if name != "dog":
            write(tmp_path / name / "b.png", encoded(200 + number))
    lines = problems_of(section(tmp_path))
    assert lines[0].startswith("dataset: class names that look alike: 'Cat', 'cat'; allowed:")
    assert lines[0].endswith("If they are one class, call it by one name")
    assert lines[1].startswith("dataset: classes with one image: 'dog'; a class needs 2 or more")


def test_classes_without_a_test_image_are_noted(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", per_class=5, classes=3)
    write_digits(tmp_path / "test", per_class=5, classes=2, start=5)
    assert "classes without a test image\n  2" in notes_of(dataset_of(section(tmp_path)))


def test_classes_with_one_test_image_are_noted(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", per_class=5, classes=3)
    write_digits(tmp_path / "test", per_class=2, classes=2, start=5)
    assert "with one test" not in notes_of(dataset_of(section(tmp_path)))
    write(tmp_path / "test" / "2" / "a.png", encoded(100))
    noted = notes_of(dataset_of(section(tmp_path)))
    assert "classes with one test image: a mean over classes has a wide interval\n  2" in noted


def test_classes_without_an_image_outside_the_test_split_are_a_problem(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", per_class=5, classes=2)
    write_digits(tmp_path / "test", per_class=5, classes=3, start=5)
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset: no labelled image outside the test split for: '2'. Add")


def test_an_empty_test_split_is_a_problem(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=3)
    (line,) = problems_of(section(tmp_path, test=0.0001))
    assert line.startswith("dataset: no image is in the test split. Add images, or raise")


def own_splits(root: Path, *, copies: int, test: int = 10) -> FolderSection:
    """Two classes with splits of their own, some test images copied from the training images."""
    write_digits(root / "train", per_class=10)
    write_digits(root / "test", per_class=test, start=10)
    for copy, path in enumerate(sorted((root / "train" / "0").iterdir())[:copies]):
        write(root / "test" / "0" / f"copy{copy}.png", path.read_bytes())
    return section(root)


def test_many_exact_copies_across_the_test_split_are_a_problem(tmp_path: Path) -> None:
    (line,) = problems_of(own_splits(tmp_path, copies=3))
    assert line.startswith("dataset: 3 of 23 test images are exact copies of images outside the ")
    assert "'test/0/copy0.png' = 'train/0/0000.png'; 'test/0/copy1.png' = " in line


def test_few_exact_copies_across_the_test_split_are_noted(tmp_path: Path) -> None:
    dataset = dataset_of(own_splits(tmp_path, copies=1, test=60))
    notes = notes_of(dataset)
    assert (
        "test images with exact copies outside the test split: 1\n"
        "  'test/0/copy0.png' = 'train/0/0000.png'"
    ) in notes
    assert "exact copies of other images: 1" in notes


def test_copies_of_another_class_are_listed_with_both_classes(digits_folder: Path) -> None:
    copied = sorted((digits_folder / "0").iterdir())[0]
    write(digits_folder / "1" / "copy.png", copied.read_bytes())
    notes = notes_of(dataset_of(section(digits_folder)))
    assert "images with exact copies in another class: 1" in notes
    assert "  '0/0000.png' = '1/copy.png': '0', '1'" in notes


def test_copies_keep_to_one_side_of_a_test_split_drawn_by_content(digits_folder: Path) -> None:
    for path in sorted((digits_folder / "0").iterdir()):
        write(digits_folder / "0" / f"copy{path.name}", path.read_bytes())
    images = dataset_of(section(digits_folder, test=0.4)).images
    split = dict(zip(images.paths, images.split, strict=True))
    pairs = [(path, path.replace("0/copy", "0/")) for path in split if "copy" in path]
    assert all(split[copy] == split[path] for copy, path in pairs)
    assert {split[path] for _, path in pairs} == {Split.POOL, Split.TEST}


def test_groups_on_both_sides_of_the_datas_own_test_split_are_a_problem(tmp_path: Path) -> None:
    for number, (split, patient) in enumerate(
        [("train", 1), ("train", 2), ("test", 2), ("test", 3)]
    ):
        for label in ("a", "b"):
            for copy in range(2):
                path = tmp_path / split / label / f"p{patient}_{copy}.png"
                write(path, encoded(10 * number + copy + 100 * (label == "b")))
    (line,) = problems_of(section(tmp_path, group=r"p\d"))
    assert line.startswith(
        "dataset: groups that lie on both sides of the data's own test split: 'p2'"
    )
    drawn = dataset_of(section(tmp_path, group=r"p\d", test=0.5), seed=1).images
    assert drawn.groups is not None
    test = drawn.split == Split.TEST
    assert not set(drawn.groups[test].tolist()) & set(drawn.groups[~test].tolist())


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_share_given_replaces_the_datas_own_test_split(tmp_path: Path, share: float) -> None:
    write_digits(tmp_path / "train", per_class=30)
    write_digits(tmp_path / "test", per_class=30, start=30)
    dataset = dataset_of(section(tmp_path, test=share))
    test = dataset.images.split == Split.TEST
    assert test.mean() == pytest.approx(share, abs=0.15)
    assert "the data's own test split, 60 images, joins the rest" in notes_of(dataset)


@pytest.mark.parametrize(
    ("names", "is_noted"),
    [
        (("-1", "0", "1"), True),
        (("-1", "1"), False),
        (("-1", "0", "cat"), False),
        (("0", "1"), False),
    ],
)
def test_a_class_that_may_stand_for_a_missing_label_is_noted(
    tmp_path: Path, names: tuple[str, ...], is_noted: bool
) -> None:
    for number, name in enumerate(names):
        for place in range(12):
            write(tmp_path / name / f"{place}.png", encoded(12 * number + place))
    notes = notes_of(dataset_of(section(tmp_path)))
    assert ("-1 is a class, of 12 images; where it stands for" in notes) is is_noted
