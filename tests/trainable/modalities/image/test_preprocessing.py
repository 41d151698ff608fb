import io
import zlib

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError
from trainable.modalities.image.preprocessing import (
    MOST_OBLONG,
    decode,
    decode_one,
    normalize,
    resized_image,
    smallest_side,
)

PLAIN = Preprocessing(
    image_size=4, resize_size=4, interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)


def encoded(pixels: npt.NDArray[np.uint8], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def made(*files: bytes) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        files,
        labels=[0] * len(files),
        split=[Split.POOL] * len(files),
        class_names=["cat"],
        paths=[f"cats/{i}.png" for i in range(len(files))],
    )


def ramp(height: int, width: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(height * 100 + width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_of_the_right_size_keep_their_exact_pixels_in_the_order_asked() -> None:
    first, second = ramp(4, 4), ramp(4, 4)[::-1].copy()
    pixels = decode(made(encoded(first), encoded(second)), np.asarray([1, 0]), PLAIN)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), second)
    assert np.array_equal(pixels[1].permute(1, 2, 0).numpy(), first)


@pytest.mark.parametrize("wide", [True, False])
def test_longer_side_is_cut_to_the_centre(wide: bool) -> None:
    centre = ramp(4, 4)
    padding = np.zeros((4, 3, 3), dtype=np.uint8)
    picture = np.concatenate([padding, centre, padding], axis=1)
    if not wide:
        picture, centre = picture.transpose(1, 0, 2).copy(), centre.transpose(1, 0, 2)
    pixels = decode(made(encoded(picture)), np.asarray([0]), PLAIN)
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), centre)


@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1), (3, 4_000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_only_the_middle_of_a_long_line_is_resized(shape: tuple[int, int], kind: str) -> None:
    line = np.full((*shape, 3), 255, dtype=np.uint8)
    images = made(encoded(line, kind))
    picture = resized_image(images, 0, Preprocessing(image_size=8, resize_size=8))
    assert sorted(picture.size) == [8, 8 * MOST_OBLONG]
    assert bool((decode(images, np.asarray([0]), PLAIN) == 255).all())


def test_cropping_a_long_line_first_does_not_move_its_centre() -> None:
    line = ramp(4, 4 * MOST_OBLONG * 3)
    pixels = decode(made(encoded(line)), np.asarray([0]), PLAIN)
    left = line.shape[1] // 2 - 2
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), line[:, left : left + 4])


def test_pictures_up_to_the_largest_ratio_are_not_cropped_first() -> None:
    images = made(encoded(ramp(4, 4 * MOST_OBLONG)))
    assert resized_image(images, 0, PLAIN).size == (4 * MOST_OBLONG, 4)


@pytest.mark.parametrize("name", ["resize", "load"])
def test_an_image_too_large_for_memory_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    images = made(encoded(ramp(6, 6)))
    monkeypatch.setattr(Image.Image, name, fail)
    monkeypatch.setattr(PngImageFile, name, fail)
    with pytest.raises(DataError, match=r"^cats/0\.png: cannot be .*: no memory for "):
        decode(images, np.asarray([0]), PLAIN)
    with pytest.raises(DataError, match=r"^cannot be .*: no memory for "):
        decode_one(images.encoded(0), PLAIN)


@pytest.mark.parametrize("side", [2, 8, 13])
def test_even_colour_keeps_its_value_at_any_size(side: int) -> None:
    even = np.full((5, 9, 3), (10, 200, 77), dtype=np.uint8)
    pixels = decode(made(encoded(even)), np.asarray([0]), Preprocessing(side, side))
    assert pixels.shape == (1, 3, side, side)
    assert [set(pixels[0, c].flatten().tolist()) for c in range(3)] == [{10}, {200}, {77}]


def test_grey_images_become_three_equal_channels() -> None:
    pixels = decode(made(encoded(ramp(4, 4)[:, :, 0])), np.asarray([0]), PLAIN)
    assert torch.equal(pixels[0, 0], pixels[0, 1])
    assert torch.equal(pixels[0, 0], pixels[0, 2])


def broken_png() -> bytes:
    """A PNG whose pixels end before an unknown chunk, for which Pillow raises SyntaxError."""
    whole = encoded(ramp(40, 40))
    place = whole.index(b"IDAT")
    half = b"IDAT" + whole[place + 4 : place + 2000]
    chunk = (len(half) - 4).to_bytes(4, "big") + half + zlib.crc32(half).to_bytes(4, "big")
    return whole[: place - 4] + chunk + bytes(4) + b"\xf4\x10\x19\xa0" + bytes(4)


def test_pillow_calls_the_broken_png_a_syntax_error() -> None:
    with (
        Image.open(io.BytesIO(broken_png())) as opened,
        pytest.raises(SyntaxError, match="broken PNG file"),
    ):
        opened.load()


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", encoded(ramp(40, 40))[:-900], broken_png()],
    ids=["empty", "text", "cut off", "broken"],
)
def test_image_that_cannot_be_decoded_is_named(content: bytes) -> None:
    images = made(encoded(ramp(4, 4)), content)
    with pytest.raises(DataError, match=r"^cats/1\.png: cannot be decoded"):
        decode(images, np.asarray([0, 1]), PLAIN)


def test_smallest_side_is_that_of_the_given_images() -> None:
    images = made(encoded(ramp(9, 7)), encoded(ramp(6, 8)), encoded(ramp(2, 2)))
    assert smallest_side(images, np.asarray([0, 1])) == 6


def test_smallest_side_of_a_file_that_is_no_image_is_an_error_with_its_path() -> None:
    with pytest.raises(DataError, match=r"^cats/0\.png: cannot be decoded"):
        smallest_side(made(b"no image"), np.asarray([0]))


def test_normalize_takes_means_and_deviations_per_channel_and_leaves_the_pixels() -> None:
    pixels = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    scale = Preprocessing(
        image_size=2,
        resize_size=2,
        interpolation="bilinear",
        mean=(0.5, 0.0, 1.0),
        std=(0.25, 0.5, 1.0),
    )
    values = normalize(pixels, scale)
    assert values[0, :, 0, 0].tolist() == pytest.approx([2.0, 2.0, 0.0])
    assert values.dtype == torch.float32
    assert (pixels == 255).all()
