import io
import struct
import sys
import zlib
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from sklearn.datasets import load_digits

from trainable.errors import DataError
from trainable.modalities.image.decoding import (
    check_image,
    decode_image,
    encoded_size,
    image_suffixes,
)


def digit(number: int = 0) -> npt.NDArray[np.uint8]:
    """(8, 8) uint8 pixels of one of scikit-learn's digits."""
    scan = np.clip(load_digits().images[number] * 16, 0, 255)
    return np.asarray(scan, dtype=np.uint8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> npt.NDArray[np.uint8]:
    picture = decode_image(content)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("PPM", {}),
    ],
)
def test_lossless_formats_give_the_exact_pixels(kind: str, options: dict[str, object]) -> None:
    content = encoded(Image.fromarray(digit()), kind, **options)
    check_image(content)
    assert np.array_equal(pixels(content), np.stack([digit()] * 3, axis=-1))


LARGE = 3 * 2**20
"""Bytes of metadata above the limit that Pillow has for a PNG by default."""


def noted(keyword: str, text: str, *, compressed: bool, international: bool) -> PngInfo:
    notes = PngInfo()
    (notes.add_itxt if international else notes.add_text)(keyword, text, zip=compressed)
    return notes


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("international", [True, False])
def test_a_png_with_large_texts_is_decoded(compressed: bool, international: bool) -> None:
    notes = noted("comment", "x" * LARGE, compressed=compressed, international=international)
    content = encoded(Image.fromarray(digit()), pnginfo=notes)
    check_image(content)
    assert np.array_equal(pixels(content)[:, :, 0], digit())


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_a_png_with_a_large_colour_profile_is_decoded(kind: str) -> None:
    content = encoded(Image.fromarray(digit()), kind, icc_profile=bytes(LARGE))
    check_image(content)
    assert pixels(content).shape == (8, 8, 3)


def test_the_orientation_in_a_large_text_is_applied() -> None:
    orientation = '<rdf tiff:Orientation="6"/>'
    notes = noted(
        "XML:com.adobe.xmp", orientation + " " * LARGE, compressed=True, international=True
    )
    content = encoded(Image.fromarray(digit()), pnginfo=notes)
    assert np.array_equal(pixels(content)[:, :, 0], np.rot90(digit(), k=-1))


def test_texts_that_would_fill_the_memory_are_refused() -> None:
    notes = noted("comment", "x" * (80 * 2**20), compressed=True, international=False)
    with pytest.raises(DataError, match="cannot be decoded: Decompressed data too large"):
        check_image(encoded(Image.fromarray(digit()), pnginfo=notes))


def test_jpeg_gives_nearly_the_same_pixels() -> None:
    content = encoded(Image.fromarray(digit()).resize((64, 64)), "JPEG", quality=95)
    check_image(content)
    expected = np.asarray(Image.fromarray(digit()).resize((64, 64)), dtype=np.int64)
    assert np.abs(pixels(content)[:, :, 0] - expected).mean() < 3


def test_palette_gives_its_colours() -> None:
    picture = Image.fromarray(np.asarray([[0, 1], [1, 0]], dtype=np.uint8), mode=None).convert("P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    assert pixels(encoded(picture))[0].tolist() == [[10, 20, 30], [200, 100, 50]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_become_white_whatever_colour_they_hide(kind: str) -> None:
    colours = np.asarray([[[9, 9, 9, 0], [200, 0, 0, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(colours), kind, **options)
    check_image(content)
    assert pixels(content)[0].tolist() == [[255, 255, 255], [200, 0, 0], [127, 127, 127]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_colour_declared_transparent_becomes_white(mode: str) -> None:
    picture = Image.fromarray(np.asarray([[0, 255]], dtype=np.uint8)).convert(mode)
    transparent = (0, 0, 0) if mode == "RGB" else picture.getpixel((0, 0))
    content = encoded(picture, transparency=transparent)
    check_image(content)
    assert pixels(content)[0].tolist() == [[255] * 3, [255] * 3]


def test_transparent_grey_becomes_white() -> None:
    picture = Image.fromarray(np.asarray([[[0, 0], [80, 255]]], dtype=np.uint8), mode=None)
    assert picture.mode == "LA"
    assert pixels(encoded(picture))[0].tolist() == [[255] * 3, [80] * 3]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_cut_off(kind: str) -> None:
    deep = np.asarray([[0, 257, 32768, 65535]], dtype=np.uint16)
    content = encoded(Image.fromarray(deep), kind)
    check_image(content)
    assert pixels(content)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_pgm_is_scaled_too() -> None:
    content = b"P5 3 1 65535\n" + struct.pack(">3H", 0, 257 * 100, 65535)
    check_image(content)
    assert pixels(content)[0, :, 0].tolist() == [0, 100, 255]


def test_floating_point_pixels_are_refused_for_their_range_is_unknown() -> None:
    content = encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    for use in (decode_image, check_image):
        with pytest.raises(DataError, match="floating-point pixels, whose range is unknown"):
            use(content)


def test_cmyk_and_one_bit_pictures_become_rgb() -> None:
    black = Image.new("CMYK", (2, 2), (0, 0, 0, 255))
    assert pixels(encoded(black, "TIFF")).max() == 0
    assert pixels(encoded(Image.new("1", (2, 2), 1))).min() == 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str) -> None:
    picture = Image.new("RGB", (32, 16), "black")
    picture.paste("white", (0, 0, 8, 16))  # the left edge is the top edge after rotation
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {"exif": exif}
    if kind == "TIFF":
        directory = ImageFileDirectory_v2()
        directory[0x0112] = 6
        options = {"tiffinfo": directory}
    content = encoded(picture, kind, **options)
    upright = pixels(content)
    assert upright.shape == (32, 16, 3)
    assert upright[:4].min() > 200
    assert upright[16:].max() < 60
    assert min(encoded_size(content)) == 16


def test_damaged_exif_data_is_ignored() -> None:
    content = encoded(Image.new("RGB", (16, 16), "white"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff")
    assert pixels(content).min() == 255


def test_an_animation_gives_its_first_picture() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (255, 0)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(content).min() == 255


BROKEN = {
    "empty": b"",
    "text": b"no image at all, but longer than any header that is looked for",
    "png cut off": encoded(Image.fromarray(np.tile(digit(), (9, 9))))[:-200],
    "jpeg cut off": encoded(Image.fromarray(np.tile(digit(), (9, 9))), "JPEG")[:-200],
    "webp cut off": encoded(Image.fromarray(np.tile(digit(), (9, 9))), "WEBP")[:-200],
    "tiff cut off": encoded(Image.fromarray(np.tile(digit(), (9, 9))), "TIFF")[:-2000],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_undecodable_files_are_refused_by_check_and_decode(content: bytes) -> None:
    for use in (check_image, decode_image):
        with pytest.raises(DataError, match=r"^cannot be decoded: ") as caught:
            use(content)
        assert "0x" not in str(caught.value)  # no memory addresses, which differ between runs


def bomb(width: int, height: int) -> bytes:
    """A PNG that has only a header with this width and height."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("side", [10_000, 60_000], ids=["Pillow warns", "Pillow refuses"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixel_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    for use in (check_image, decode_image, encoded_size):
        with pytest.raises(DataError, match=r"^cannot be decoded: .*pixels"):
            use(bomb(side, side))


def heic(brand: bytes = b"heic") -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\0\0mif1" + brand + b"\0" * 40


def test_heic_without_its_plugin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for use in (check_image, decode_image):
        with pytest.raises(DataError, match=r"HEIC needs a plugin of Pillow; install pillow-heif$"):
            use(heic())


def test_avif_where_pillow_lacks_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    with pytest.raises(DataError, match=r"AVIF needs a plugin .*install pillow-heif, or a Pillow"):
        check_image(heic(b"avif"))


def test_heic_is_left_to_the_plugin_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    plugin = SimpleNamespace(register_heif_opener=lambda: called.append("registered"))
    module = ModuleType("pillow_heif")
    module.__dict__.update(vars(plugin))
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    with pytest.raises(DataError, match="no kind of image"):  # this fake plugin opens nothing
        decode_image(heic())
    assert called == ["registered"]


def test_postscript_is_refused_and_never_run() -> None:
    with pytest.raises(DataError, match="no kind of image that Pillow knows"):
        decode_image(encoded(Image.new("RGB", (4, 4)), "EPS"))


def test_suffixes_are_those_of_images_that_can_be_read() -> None:
    assert {".jpg", ".jpeg", ".png", ".tif", ".gif", ".webp", ".bmp", ".heic"} <= image_suffixes()
    assert not {".txt", ".eps", ".pdf", ".mp4", ".csv", ".h5", ".mpg"} & image_suffixes()
