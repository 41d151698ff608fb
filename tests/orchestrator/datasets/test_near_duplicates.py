from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from orchestrator.datasets import digits
from orchestrator.datasets.near_duplicates import near_duplicates, thumbnails
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError


def photo(seed: int) -> Image.Image:
    """Smooth shapes, as a photograph has them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def made(*files: bytes) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        files,
        labels=[0] * len(files),
        split=[Split.POOL] * len(files),
        class_names=["a"],
        paths=[f"a/{i}" for i in range(len(files))],
    )


def pairs(*files: bytes) -> list[tuple[int, int]]:
    return near_duplicates(thumbnails(made(*files), np.arange(len(files))))


def test_a_copy_saved_again_or_resized_is_found_and_others_are_not() -> None:
    first, second = photo(0), photo(1)
    files = [
        encoded(first),
        encoded(second),
        encoded(first, "JPEG", quality=60),
        encoded(first.resize((48, 32))),
        encoded(second, "JPEG", quality=90),
    ]
    assert pairs(*files) == [(0, 2), (0, 3), (1, 4), (2, 3)]


def test_none_are_found_among_many_different_ones() -> None:
    assert pairs(*(encoded(photo(seed)) for seed in range(60))) == []
    assert pairs() == []


def test_many_blank_ones_are_noticed_in_bounded_time() -> None:
    thumbs = np.full((3000, 16, 16), 7, dtype=np.uint8)
    found = near_duplicates(thumbs)
    assert 2999 <= len(found) <= 4 * 3000


def test_handwritten_digits_are_not_taken_for_copies_of_each_other() -> None:
    images = digits.load(test=None, seed=0)
    found = near_duplicates(thumbnails(images, np.arange(600)))
    assert len(found) <= 3


def test_what_cannot_be_decoded_is_named() -> None:
    with pytest.raises(DataError, match="a/0: cannot be decoded"):
        thumbnails(made(b"no picture"), np.arange(1))


def flat(value: int) -> npt.NDArray[np.uint8]:
    return np.full((1, 16, 16), value, dtype=np.uint8)


def test_blank_pictures_of_other_brightness_are_no_copies() -> None:
    assert near_duplicates(np.concatenate([flat(0), flat(200)])) == []
    assert near_duplicates(np.concatenate([flat(200), flat(201)])) == [(0, 1)]
