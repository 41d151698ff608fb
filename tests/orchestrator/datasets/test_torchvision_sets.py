import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.datasets.sections import TorchvisionSection
from tests.orchestrator.datasets.conftest import (
    dataset_of,
    encoded,
    notes_of,
    problems_of,
    rows_of,
    scans,
    write,
    write_digits,
)
from trainable.data.labelled_examples import Split
from trainable.spec.trial_spec import LabelBudget


def section(name: str, root: Path, **options: object) -> TorchvisionSection:
    return TorchvisionSection.model_validate({"name": name, "root": str(root), **options})


def write_mnist(root: Path, *, train: int = 60, test: int = 30) -> None:
    """Digits in the files that torchvision's MNIST reads."""
    pixels, labels = scans()
    raw = root / "MNIST" / "raw"
    for kind, start, count in (("train", 0, train), ("t10k", train, test)):
        some = pixels[start : start + count]
        header = struct.pack(">IIII", 0x803, count, 8, 8)
        write(raw / f"{kind}-images-idx3-ubyte", header + some.tobytes())
        names = labels[start : start + count].astype(np.uint8).tobytes()
        write(raw / f"{kind}-labels-idx1-ubyte", struct.pack(">II", 0x801, count) + names)


def test_pictures_from_memory_keep_their_pixels_and_their_own_split(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    dataset = dataset_of(section("MNIST", tmp_path))
    images = dataset.images
    assert "test split: the data's own, 30 images" in notes_of(dataset)
    assert images.class_names[:2] == ("0 - zero", "1 - one")
    pixels, labels = scans()
    for row, path in enumerate(images.paths):
        part, number = path.split("/")
        source = int(number) + (60 if part == "test" else 0)
        assert images.split[row] == (Split.TEST if part == "test" else Split.POOL)
        assert images.labels[row] == labels[source]
        assert images.encoded(row).startswith(b"P5")  # one encoding, whatever Pillow's version
        with Image.open(io.BytesIO(images.encoded(row))) as picture:
            assert np.array_equal(np.asarray(picture), pixels[source])


def test_a_share_given_draws_from_both_splits(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=300, test=100)
    rows = rows_of(dataset_of(section("MNIST", tmp_path, test=0.3)).images)
    test = {path.split("/")[0] for path, (_, split) in rows.items() if split is Split.TEST}
    assert test == {"train", "test"}


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    write_digits(tmp_path / "eurosat" / "2750", per_class=12)
    images = dataset_of(section("EuroSAT", tmp_path)).images
    assert images.class_names == ("0", "1")
    first = sorted((tmp_path / "eurosat" / "2750" / "0").iterdir())[0]
    assert images.encoded(images.paths.index("EuroSAT/0")) == first.read_bytes()
    assert len(set(images.split.tolist())) == 2


def test_splits_by_name_are_those_that_the_data_set_has(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test")):
        write_digits(tmp_path / "country211" / split, per_class=8, start=8 * number)
    images = dataset_of(section("Country211", tmp_path), keep_val=True).images
    assert [list(images.split).count(split) for split in Split] == [16, 16, 16]
    assert {path.split("/")[0] for path in images.paths} == {"train", "valid", "test"}


def test_a_split_that_lacks_a_class_keeps_the_names_of_the_others(tmp_path: Path) -> None:
    write_digits(tmp_path / "country211" / "train", per_class=8, classes=3)
    write_digits(tmp_path / "country211" / "valid", per_class=8, classes=3, start=8)
    write_digits(tmp_path / "country211" / "test", per_class=8, classes=3, start=16)
    shutil.rmtree(tmp_path / "country211" / "test" / "0")
    images = dataset_of(section("Country211", tmp_path)).images
    assert images.class_names == ("0", "1", "2")
    test = [label for label, split in rows_of(images).values() if split is Split.TEST]
    assert sorted(test) == ["1"] * 8 + ["2"] * 8


def test_only_what_is_drawn_is_kept(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=600, test=30)
    images = dataset_of(section("MNIST", tmp_path), LabelBudget(2)).images
    assert images.is_read()[images.indices(Split.TEST)].all()
    assert 20 <= images.is_read()[images.indices(Split.POOL)].sum() <= 40


def test_data_that_are_not_there_name_the_root_and_what_to_do(tmp_path: Path) -> None:
    (line,) = problems_of(section("CIFAR10", tmp_path / "none"))
    assert line.startswith(f"dataset.root: CIFAR10 is not in '{tmp_path / 'none'}'"[:60])
    assert "put its files there, or set dataset.download: true" in line


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MNST", "got 'MNST'; allowed: a class of torchvision.datasets; did you mean"),
        ("FakeData", "got 'FakeData'; allowed: a class of torchvision.datasets"),
        ("LSUN", "LSUN unpickles whatever"),
        ("EMNIST", "EMNIST has no split that is called train"),
        ("Kinetics", "Kinetics needs arguments that a file cannot give: frames_per_clip"),
    ],
)
def test_what_is_no_classification_of_images_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    (line,) = problems_of(section(name, tmp_path))
    assert line.startswith(f"dataset.name: {reason}")


def test_a_folder_of_images_in_torchvisions_form_works_too(tmp_path: Path) -> None:
    write_digits(tmp_path, per_class=12)
    write(tmp_path / "0" / "broken.png", b"x")
    dataset = dataset_of(section("ImageFolder", tmp_path, max_bad_fraction=0.1))
    assert len(dataset.images) == 24
    assert dataset.images.encoded(0) in {encoded(row) for row in range(300)}
