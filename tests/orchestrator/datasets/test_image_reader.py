"""What is read, what is checked, and what becomes of broken images."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.datasets import image_checker
from orchestrator.datasets.image_reader import Demand
from orchestrator.datasets.sections import FolderSection
from orchestrator.datasets.splits import share_of_test
from tests.builders.prepared import load_images
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    write,
    write_digits,
)
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.errors import DataError
from trainable.modalities.image.decoding import check_image
from trainable.spec.trial_spec import LabelBudget

TWO = LabelBudget(2)


def section(path: Path, **options: object) -> FolderSection:
    return FolderSection.model_validate({"path": str(path), **options})


def drawn(images: LabelledExamples, budget: LabelBudget, repeat: int) -> set[str]:
    rows = draw_subset(images, budget=budget, repeat=repeat, seed=0)
    return {images.paths[row] for row in rows}


def test_only_what_a_draw_or_a_finalist_can_touch_is_in_memory(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=60)
    images = dataset_of(section(tmp_path), TWO, LabelBudget(total=5), repeats=3).images
    assert len(images) == 120
    touched = {images.paths[row] for row in images.indices(Split.TEST)}
    for repeat in range(3):
        for budget in (TWO, LabelBudget(total=5)):
            touched |= drawn(images, budget, repeat)
    read = {images.paths[row] for row in np.flatnonzero(images.is_read())}
    assert read == touched
    assert len(read) < 60
    size = sum(len(shard) for shard in images.shards)
    assert size == sum((tmp_path / path).stat().st_size for path in read)
    for row in np.flatnonzero(images.is_read()):
        assert images.encoded(int(row)) == (tmp_path / images.paths[row]).read_bytes()
    with pytest.raises(DataError, match="was not read"):
        images.encoded(int(np.flatnonzero(~images.is_read())[0]))


def test_draws_are_those_of_all_images_read(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=30)
    some = dataset_of(section(tmp_path), TWO).images
    whole = load_images(section(tmp_path), seed=0)
    assert whole.is_read().all()
    assert some.fingerprint() == whole.fingerprint()
    for repeat in range(2):
        assert drawn(some, TWO, repeat) == drawn(whole, TWO, repeat)


def opened(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """Names of the files below `root` that are opened from now on."""
    names: list[str] = []
    real = os.open

    def spy(path: str, flags: int, *args: object) -> int:
        if str(path).startswith(str(root)):
            names.append(str(path))
        return real(path, flags, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("orchestrator.datasets.files.os.open", spy)
    return names


def test_with_budget_all_nothing_is_read_twice(
    digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = opened(monkeypatch, digits_folder)
    dataset_of(section(digits_folder), TWO, LabelBudget())
    assert len(names) == len(set(names)) == 40


def test_with_small_budgets_only_drawn_images_of_the_pool_are_read_again(
    digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = opened(monkeypatch, digits_folder)
    images = dataset_of(section(digits_folder), TWO).images
    again = len(names) - 40
    assert again == (images.is_read() & (images.split == Split.POOL)).sum() > 0


BROKEN = {
    "empty.png": b"",
    "text.png": b"this is no picture",
    "cut.png": encoded(1500)[:-30],
    "bomb.pgm": b"P5 60000 60000 255\n",
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_broken_images_are_left_out_counted_and_listed(digits_folder: Path) -> None:
    clean = dataset_of(section(digits_folder)).images
    for name, content in BROKEN.items():
        write(digits_folder / "0" / name, content)
    dataset = dataset_of(section(digits_folder, max_bad_fraction=0.2))
    assert dataset.images.fingerprint() == clean.fingerprint()
    notes = notes_of(dataset)
    assert "4 of 44 images cannot be used" in notes
    for name in BROKEN:
        assert f"  0/{name}: " in notes
    assert "0/empty.png: the file is empty" in notes
    assert "pixels" in notes.split("0/bomb.pgm: ")[1].splitlines()[0]


def test_more_broken_images_than_allowed_are_an_error_that_lists_them(digits_folder: Path) -> None:
    for name, content in BROKEN.items():
        write(digits_folder / "0" / name, content)
    (line,) = problems_of(section(digits_folder))
    assert line.startswith("dataset.max_bad_fraction: got 0.01; 4 of 44 images cannot be used (43 ")
    assert "0/cut.png: cannot be decoded: " in line


def test_a_file_that_may_not_be_read_is_listed(
    digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith("0/0000.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    monkeypatch.setattr("orchestrator.datasets.files.os.open", refuse)
    dataset = dataset_of(section(digits_folder, max_bad_fraction=0.1))
    assert "0/0000.png: cannot be read: Permission denied" in notes_of(dataset)
    assert len(dataset.images) == 39


def test_what_changes_between_the_two_readings_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path, per_class=30)
    whole = load_images(section(tmp_path), seed=0)
    victim = sorted(drawn(whole, TWO, 0))[0]
    times = 0
    real = os.open

    def change(path: str, flags: int) -> int:
        nonlocal times
        if path.endswith(victim):
            times += 1
            if times == 2:
                Path(path).write_bytes(encoded(1700))
        return real(path, flags)

    monkeypatch.setattr("orchestrator.datasets.files.os.open", change)
    dataset = dataset_of(section(tmp_path, max_bad_fraction=0.1), TWO)
    assert f"{victim}: changed while it was being read" in notes_of(dataset)
    assert victim not in dataset.images.paths


def test_the_next_image_of_the_draw_takes_the_place_of_a_broken_one(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=30)
    whole = load_images(section(tmp_path), seed=0)
    five = [
        whole.paths[row]
        for row in draw_subset(whole, budget=LabelBudget(5), repeat=0, seed=0)
        if whole.paths[row].startswith("0/")
    ]
    for number in range(200):  # until its content is among the first of its class
        write(tmp_path / "0" / "broken.png", b"broken %d" % number)
        if "0/broken.png" in drawn(unchecked(tmp_path), TWO, 0):
            break
    dataset = dataset_of(section(tmp_path, max_bad_fraction=0.5), TWO, repeats=1)
    assert "0/broken.png: cannot be decoded" in notes_of(dataset)
    rows = draw_subset(dataset.images, budget=TWO, repeat=0, seed=0)
    paths = [dataset.images.paths[row] for row in rows]
    assert [path for path in paths if path.startswith("0/")] == five[:2]
    assert all(dataset.images.is_read()[rows])


def unchecked(root: Path) -> LabelledExamples:
    """All files of the folder as they are, each in the pool unless the content says test."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    images = LabelledExamples.from_bytes(
        ((root / path).read_bytes() for path in paths),
        labels=[int(path.split("/")[0]) for path in paths],
        split=[Split.POOL] * len(paths),
        class_names=["0", "1"],
        paths=paths,
    )
    test = share_of_test(images.digests, share=0.2, seed=0)
    return images.at(np.flatnonzero(~test))


def test_an_untouched_broken_image_is_no_matter(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=60)
    whole = load_images(section(tmp_path), seed=0)
    for number in range(100):
        write(tmp_path / "0" / "broken.png", b"broken %d" % number)
        images = dataset_of(section(tmp_path, max_bad_fraction=1.0), TWO).images
        if "0/broken.png" in images.paths:
            break
    row = images.paths.index("0/broken.png")
    assert not images.is_read()[row]
    assert len(images) == len(whole) + 1


def test_budgets_that_cannot_be_served_are_left_to_the_plan(digits_folder: Path) -> None:
    budgets = (LabelBudget(total=1), LabelBudget(500), LabelBudget(total=10_000))
    assert len(dataset_of(section(digits_folder), *budgets).images) == 40
    assert len(dataset_of(section(digits_folder), LabelBudget(total=1)).images) == 40


def test_demand_is_for_everything_where_one_budget_is_all() -> None:
    assert Demand(budgets=(TWO, LabelBudget()), repeats=1, seed=0).everything
    assert not Demand(budgets=(TWO, LabelBudget(total=3)), repeats=1, seed=0).everything


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    write_digits(tmp_path, per_class=20)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    dataset_of(section(tmp_path), TWO)
    assert ("reading images" in stream.getvalue()) is is_terminal


def test_the_split_of_an_image_stays_when_others_come(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=20)
    before = dataset_of(section(tmp_path)).images
    write_digits(tmp_path, per_class=20, start=20, classes=3)
    after = dataset_of(section(tmp_path)).images
    split = dict(zip(after.paths, after.split, strict=True))
    assert all(split[path] == one for path, one in zip(before.paths, before.split, strict=True))
    assert len(after) > len(before)


def test_a_large_picture_of_a_camera_is_checked_at_its_full_length(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=20)
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)).save(
        content, "JPEG", quality=95
    )
    write(tmp_path / "0" / "whole.jpg", content.getvalue())
    write(tmp_path / "0" / "cut.jpg", content.getvalue()[:-3000])
    dataset = dataset_of(section(tmp_path, max_bad_fraction=0.1))
    assert "0/whole.jpg" in dataset.images.paths
    assert "0/cut.jpg" not in dataset.images.paths
    assert "0/cut.jpg: cannot be decoded: " in notes_of(dataset)


def test_images_of_a_kind_are_decoded_until_one_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path, per_class=100)
    names = sorted(str(path) for path in tmp_path.rglob("*.png"))
    broken = Path(names[-1])
    broken.write_bytes(broken.read_bytes()[:-40])
    decoded: list[bytes] = []

    def spy(content: bytes) -> None:
        decoded.append(content)
        check_image(content)

    monkeypatch.setattr(image_checker, "check_image", spy)
    monkeypatch.setattr(image_checker, "_CHUNK", 2)
    monkeypatch.setattr(image_checker, "usable_processors", lambda: 1)
    read = dataset_of(section(tmp_path), LabelBudget.parse("all"))
    assert broken.read_bytes() in decoded
    assert 1 < len(decoded) < 20
    assert len(read.images) == 199
    assert "1 of 200 images cannot be used (200 were checked)" in notes_of(read)


def test_a_class_whose_images_are_all_broken_is_told_by_its_cause_alone(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=12)
    for path in (tmp_path / "1").iterdir():
        path.write_bytes(b"")
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.max_bad_fraction: got 0.01; 12 of 24 images cannot be used")
