"""Decoding of encoded bytes, in any format that Pillow reads, into an upright RGB picture.

- **Orientation**: the EXIF orientation that a camera wrote is applied.
- **Transparency**: transparent pixels become white, because cut-outs and drawings are made for a
  white page. Their hidden colour is ignored.
- **16-bit grey** (Pillow's modes `I;16` and, for some files, `I`) is scaled to 8 bits and not
  clipped at 255. The scale covers all 16 bits, or the value range of the data set if it uses few of
  them. Pixels in floating point are refused, because their range is unknown.
- **Animations and stacks**: their first picture is used.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from trainable.errors import DataError

ValueRange = tuple[int, int]
"""Values of 16-bit grey that become black and white; the first is smaller."""

# An EPS file is a program, which Ghostscript would run. Of the others Pillow reads only the header.
_REFUSED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
_PLUGIN_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = frozenset({"RGB", "L", "1", "P", "RGBA", "CMYK", *_SIXTEEN_BIT})
_PNG = b"\x89PNG\r\n\x1a\n"
_SHALLOW = (b"\xff\xd8\xff", b"P6", b"BM", b"GIF8", b"RIFF")
"""First bytes of JPEG, PPM, BMP, GIF and WebP files, which are never 16-bit grey."""
_GREY_8 = re.compile(rb"P5\s+\d+\s+\d+\s+(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s")
_GREY_16 = b"\x10\x00"
"""Bit depth and colour type of 16-bit grey in a PNG's header."""
_MOST = 65535
_WHITE = (255, 255, 255, 255)

# A picture that is so large that Pillow warns about it takes as much memory as a hundred others.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Pillow refuses a PNG with a text chunk or colour profile above 1 MiB, or with more than 64 MiB of
# text in all. Editors write chunks above 1 MiB (XMP with a history) into files that are otherwise
# fine, so that only the second limit is kept.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Wrong metadata of a camera does not harm the picture, and nobody would correct it in every image.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")


def decode_image(encoded: bytes, *, value_range: ValueRange | None = None) -> Image.Image:
    """Decode a picture: in RGB, and upright.

    Args:
        encoded: content of the image file.
        value_range: values of 16-bit grey that become black and white; None for all 16 bits. Other
            pictures ignore it.

    Raises:
        DataError: the picture cannot be decoded; the message has the reason but no path.
    """
    with _telling(), _open(encoded) as opened:
        _turn_upright(opened)
        return _to_rgb(opened, value_range)


def check_image(encoded: bytes) -> None:
    """Make sure that `decode_image` can decode a picture; takes less time than decoding it.

    All bytes of the file are decoded, a JPEG at an eighth of its size. A mode that can always be
    converted to RGB is not converted.

    Raises:
        DataError: see `decode_image`.
    """
    with _telling(), _open(encoded) as opened:
        opened.draft(None, (max(1, opened.width // 8), max(1, opened.height // 8)))
        opened.load()
        if opened.mode not in _CONVERTIBLE:
            _to_rgb(opened)


def may_be_deep(encoded: bytes) -> bool:
    """Whether the picture may be 16-bit grey, judged by its first bytes; False is certain."""
    if encoded.startswith(_PNG):
        return encoded[24:26] == _GREY_16
    return not encoded.startswith(_SHALLOW) and not _GREY_8.match(encoded)


def value_extent(encoded: bytes) -> ValueRange | None:
    """Smallest and largest value of a 16-bit grey picture; None for any other picture.

    Raises:
        DataError: the picture cannot be decoded.
    """
    if not may_be_deep(encoded):
        return None
    with _telling(), _open(encoded) as opened:
        if opened.mode not in _SIXTEEN_BIT:
            return None
        values = np.asarray(opened)
        return int(values.min()), int(values.max())


def narrowed(extent: ValueRange) -> ValueRange | None:
    """The value range to scale 16-bit pictures by, given their extremes; None for all 16 bits.

    All 16 bits are used if the pictures then span at least half of the 256 grey levels.
    """
    low, high = extent
    if low == high or (low >= 0 and high <= _MOST and high - low >= _MOST // 2):
        return None
    return extent


def encoded_size(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels as stored, that is before rotation; only the header is read.

    Raises:
        DataError: the header cannot be read.
    """
    with _telling(), _open(encoded) as opened:
        return opened.width, opened.height


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of files that count as images, in lower case and with their dot."""
    Image.init()
    formats = Image.registered_extensions()
    return _PLUGIN_SUFFIXES | {
        suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _REFUSED
    }


@contextmanager
def _telling() -> Iterator[None]:
    """Turn every exception of Pillow into a `DataError`.

    Pillow's plugins raise exceptions of many classes for damaged files: OSError, SyntaxError,
    struct.error, IndexError, and even AttributeError.
    """
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded: no kind of image that Pillow knows") from error
    except MemoryError as error:
        raise DataError("cannot be decoded: no memory for its pixels") from error
    except Exception as error:
        raise DataError(f"cannot be decoded: {str(error) or type(error).__name__}") from error


def _open(encoded: bytes) -> Image.Image:
    """Open a picture: its header is read, its pixels are not."""
    if not encoded:
        raise DataError("cannot be decoded: the file is empty")
    if encoded[4:8] == b"ftyp":
        _need_plugin(encoded)
    Image.init()
    opened = Image.open(io.BytesIO(encoded), formats=_formats(len(Image.ID)))
    pixels = opened.width * opened.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"cannot be decoded: {pixels:,} pixels; allowed are {Image.MAX_IMAGE_PIXELS:,}"
        )
    return opened


@cache
def _formats(known: int) -> list[str]:
    """Names of the formats that Pillow tries, the most common first.

    Args:
        known: number of formats that Pillow knows. It is part of the cache's key, because plugins
            add formats.
    """
    del known
    common = ["JPEG", "PNG"]
    return common + [name for name in Image.ID if name not in _REFUSED and name not in common]


def _need_plugin(encoded: bytes) -> None:
    """Register the plugin that opens HEIC and AVIF files, if this is one and Pillow needs it.

    Raises:
        DataError: the plugin is not installed.
    """
    Image.init()
    brands = encoded[8:12], *(encoded[at : at + 4] for at in range(16, 64, 4))
    kind = next(
        (
            name
            for name, known in (("AVIF", _AVIF_BRANDS), ("HEIC", _HEIC_BRANDS))
            if any(brand in known for brand in brands)
        ),
        None,
    )
    if kind is None or "HEIF" in Image.OPEN or (kind == "AVIF" and "AVIF" in Image.OPEN):
        return
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        newer = ", or a Pillow that reads AVIF itself (11.3 or newer)" if kind == "AVIF" else ""
        raise DataError(
            f"cannot be decoded: {kind} needs a plugin of Pillow; install pillow-heif{newer}"
        ) from None
    plugin.register_heif_opener()


def _turn_upright(opened: Image.Image) -> None:
    # Damaged EXIF data is no reason to refuse a picture. Pillow warns of it, or raises.
    opened.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ImageOps.exif_transpose(opened, in_place=True)
    except Exception:
        return


def _to_rgb(opened: Image.Image, value_range: ValueRange | None = None) -> Image.Image:
    if opened.mode == "RGB" and not opened.has_transparency_data:
        return opened
    if opened.mode in _SIXTEEN_BIT:
        low, high = value_range or (0, _MOST)
        values = np.clip(np.asarray(opened).astype(np.float64), low, high) - low
        grey = np.round(values / ((high - low) / 255)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if opened.mode == "F":
        raise DataError(
            "cannot be decoded: floating-point pixels, whose range is unknown; save 8 or 16 bits"
        )
    if opened.has_transparency_data:
        layer = opened.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return opened.convert("RGB")
