"""16-bit grey pictures that use few of their bits, from the file to what networks see."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from orchestrator.datasets.sections import FolderSection
from orchestrator.running.resume_checks import _describe
from orchestrator.space.build_space import build_space
from tests.orchestrator.datasets.conftest import dataset_of, notes_of, write
from trainable.backbones import Preprocessing
from trainable.data import examples_file
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.modalities.image.decoding import narrowed, value_extent
from trainable.modalities.image.inputs import PixelInputs
from trainable.modalities.image.preprocessing import decode, decode_one
from trainable.spec.trial_spec import LabelBudget

SIDE = 8
PLAIN = Preprocessing(SIDE, SIDE)


def grey(values: npt.NDArray[Any], form: str = "PNG") -> bytes:
    """A 16-bit grey file; signed and wider values as 32 bits, which TIFF alone can hold."""
    sink = io.BytesIO()
    wide = values.min() < 0 or values.max() > 65535
    Image.fromarray(values.astype(np.int32 if wide else np.uint16)).save(sink, form)
    return sink.getvalue()


def pictures(low: int, high: int, *, count: int, seed: int) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    found = [rng.integers(low, high + 1, (SIDE, SIDE)) for _ in range(count)]
    for values in found:
        values.ravel()[:2] = low, high
    return found


def write_splits(root: Path, low: int, high: int, form: str = "PNG") -> None:
    """Two classes; the test pictures hold smaller and larger values than those of the pool."""
    spread = (high - low) // 4
    for number, (split, more) in enumerate({"train": 0, "test": spread}.items()):
        for place, name in enumerate("ab"):
            some = pictures(low, high + more, count=6, seed=10 * number + place)
            for index, values in enumerate(some):
                write(root / split / name / f"{index}.{form.lower()}", grey(values, form))


def section(path: Path, **options: object) -> FolderSection:
    return FolderSection.model_validate({"path": str(path), **options})


def values_of(images: LabelledExamples, index: int) -> npt.NDArray[Any]:
    with Image.open(io.BytesIO(images.encoded(index))) as picture:
        return np.asarray(picture).astype(np.float64)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 4095), (0, 1023), (100, 900), (30000, 34000), (0, 300), (0, 32000)]
)
def test_pictures_are_scaled_by_the_range_of_the_pool_alone(
    low: int, high: int, form: str, tmp_path: Path
) -> None:
    write_splits(tmp_path, low, high, form)
    dataset = dataset_of(section(tmp_path))
    images = dataset.images
    assert images.value_range == (low, high)
    assert f"16-bit pictures hold {low:,} to {high:,} in the pool: {low:,} bec" in notes_of(dataset)
    pixels = decode(images, np.arange(len(images)), PLAIN).numpy()
    for row in range(len(images)):
        values = np.clip(values_of(images, row), low, high)
        expected = np.round((values - low) / ((high - low) / 255))
        assert np.array_equal(pixels[row, 0], expected)
    pool = images.indices(Split.POOL)
    assert len(np.unique(pixels[pool])) > 100


@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (-5, 60000), (0, 200_000)])
def test_values_that_16_bits_cannot_hold_count_too(low: int, high: int, tmp_path: Path) -> None:
    write_splits(tmp_path, low, high, "TIFF")
    images = dataset_of(section(tmp_path)).images
    assert images.value_range == (low, high)
    pixels = decode(images, images.indices(Split.POOL), PLAIN)
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 40000), (20000, 60000)])
def test_pictures_that_use_most_of_their_bits_stay_as_they_were(
    low: int, high: int, tmp_path: Path
) -> None:
    for place, name in enumerate("ab"):
        for index, values in enumerate(pictures(low, high, count=12, seed=place)):
            write(tmp_path / name / f"{index}.png", grey(values))
    dataset = dataset_of(section(tmp_path, test=0.3))
    assert dataset.images.value_range is None
    assert "16-bit" not in notes_of(dataset)
    row = int(dataset.images.indices(Split.POOL)[0])
    expected = np.round(values_of(dataset.images, row) / 257)
    assert np.array_equal(decode(dataset.images, np.array([row]), PLAIN)[0, 0], expected)


@pytest.mark.parametrize("mark", [65535, 20000])
def test_few_pictures_that_cost_the_others_their_grey_levels_are_noted(
    mark: int, tmp_path: Path
) -> None:
    write_splits(tmp_path, 0, 4095)
    marked = pictures(0, 4095, count=1, seed=99)[0]
    marked[0, 0] = mark
    write(tmp_path / "train" / "a" / "marked.png", grey(marked))
    notes = notes_of(dataset_of(section(tmp_path)))
    assert f"no value above 4,095, though the largest in the pool is {mark:,}, so that" in notes
    assert "marks, say dataset.bits: 12\n" in f"{notes}\n"
    dataset = dataset_of(section(tmp_path, bits=12))
    assert dataset.images.value_range == (0, 4095)
    assert "grey levels" not in notes_of(dataset)


def test_bits_without_16_bit_pictures_are_noted(digits_folder: Path) -> None:
    notes = notes_of(dataset_of(section(digits_folder, bits=12)))
    assert "dataset.bits changes nothing: the pool holds no pictures of 16-bit grey" in notes
    assert "dataset.bits" not in notes_of(dataset_of(section(digits_folder)))


def test_a_single_value_is_no_range() -> None:
    assert narrowed((700, 700)) is None
    assert narrowed((700, 701)) == (700, 701)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "BMP", "PPM", "WEBP", "JPEG"])
def test_only_16_bit_grey_has_an_extent(mode: str, form: str) -> None:
    sink = io.BytesIO()
    Image.new("L", (4, 4), 99).convert(mode).save(sink, form)
    assert value_extent(sink.getvalue()) is None


def test_a_grey_map_has_an_extent_where_it_holds_more_than_8_bits() -> None:
    assert value_extent(b"P5 2 1 255\n" + bytes([3, 200])) is None
    assert value_extent(b"P5 2 1 65535\n" + bytes([0, 3, 2, 0])) == (3, 512)


def test_the_range_is_that_of_the_whole_pool_whatever_is_drawn(tmp_path: Path) -> None:
    for place, name in enumerate("ab"):
        for index in range(40):
            values = pictures(50 + index + 40 * place, 4000 + index, count=1, seed=index + 99)[0]
            write(tmp_path / name / f"{index:02d}.png", grey(values + place))
    ranges = [
        dataset_of(section(tmp_path), *budgets).images.value_range
        for budgets in ((), (LabelBudget(2),), (LabelBudget(5),))
    ]
    assert ranges[0] == ranges[1] == ranges[2]
    assert ranges[0] is not None


@pytest.mark.parametrize(
    ("bits", "expected"), [(12, (0, 4095)), (15, (0, 32767)), (16, None), (8, (0, 255))]
)
def test_the_file_can_say_how_many_bits_are_used(
    bits: int, expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    write_splits(tmp_path, 10, 900)
    dataset = dataset_of(section(tmp_path, bits=bits))
    assert dataset.images.value_range == expected
    assert "say dataset.bits" not in notes_of(dataset)


def test_pictures_of_8_bits_have_no_range_and_keep_their_key(digits_folder: Path) -> None:
    images = dataset_of(section(digits_folder, bits=12)).images
    assert images.value_range is None
    assert "value_range" not in PixelInputs(images, PLAIN).key
    assert "value_range" not in _describe(images)


def test_pictures_of_8_bits_beside_16_bits_stay_as_they_are(tmp_path: Path) -> None:
    write_splits(tmp_path, 0, 4095)
    eight = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    sink = io.BytesIO()
    Image.fromarray(eight).save(sink, "PNG")
    write(tmp_path / "train" / "a" / "eight.png", sink.getvalue())
    images = dataset_of(section(tmp_path)).images
    row = images.paths.index("train/a/eight.png")
    assert images.value_range == (0, 4095)
    assert np.array_equal(decode(images, np.array([row]), PLAIN)[0, 0], eight)


def test_the_range_travels_with_the_images_and_into_key_and_manifest(tmp_path: Path) -> None:
    write_splits(tmp_path / "photos", 0, 4095)
    images = dataset_of(section(tmp_path / "photos")).images
    examples_file.save(images, tmp_path / "images.npz")
    again = examples_file.load(tmp_path / "images.npz").at(np.arange(3))
    assert again.value_range == (0, 4095)
    plain = LabelledExamples.from_bytes(
        [images.encoded(0)], labels=[0], split=[0], class_names=["a"], paths=["a"]
    )
    assert PixelInputs(again, PLAIN).key != PixelInputs(plain, PLAIN).key
    assert _describe(images)["value_range"] == [0, 4095]
    one = decode_one(images.encoded(0), PLAIN, value_range=images.value_range)
    assert np.array_equal(one, decode(images, np.array([0]), PLAIN)[0])
    assert not np.array_equal(one, decode_one(images.encoded(0), PLAIN))


def test_bits_are_a_part_of_the_space_only_where_the_file_says_them() -> None:
    def hashed(**options: object) -> str:
        search = {"backbone": "tiny_strokes", "label_budget": 5}
        dataset = {"source": "folder", "path": "/x", **options}
        given = {"name": "n", "dataset": dataset, "search": search}
        return build_space(given).fingerprint()

    assert hashed(bits=12) != hashed()
    assert "bits" not in section(Path("/x")).to_json()
