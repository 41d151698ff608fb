"""Encoded bytes -> an upright RGB picture: whatever Pillow decodes, each kind with one meaning.

- **Orientation** that a camera noted (EXIF) is applied.
- **Transparent** pixels lie on white, as on the page that cut-outs and drawings are made for;
  their hidden colour says nothing.
- **16-bit grey** (`I;16`, and `I`, which is how Pillow opens some of it) is scaled to 8 bits, not
  cut off at 255: from all 16 bits, or from the range of values that a data set uses where these are
  few. Floating-point pixels are refused: no range is theirs.
- **Animations and stacks** give their first picture.
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
"""Values of 16-bit grey that become black and white, the first below the second."""

# EPS is a program that Ghostscript would run; of the others Pillow knows no more than the header.
_REFUSED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
_PLUGIN_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = frozenset({"RGB", "L", "1", "P", "RGBA", "CMYK", *_SIXTEEN_BIT})
_PNG = b"\x89PNG\r\n\x1a\n"
_SHALLOW = (b"\xff\xd8\xff", b"P6", b"BM", b"GIF8", b"RIFF")
"""How JPEG, PPM, BMP, GIF and WebP files begin, which hold no 16-bit grey."""
_GREY_8 = re.compile(rb"P5\s+\d+\s+\d+\s+(\d{1,2}|1\d\d|2[0-4]\d|25[0-5])\s")
_GREY_16 = b"\x10\x00"
"""A PNG's bit depth and kind of colour, in its header."""
_MOST = 65535
_WHITE = (255, 255, 255, 255)

# A picture so large that Pillow warns of it takes the memory of a hundred others.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Of a PNG's texts and colour profile Pillow takes 1 MiB each, and 64 MiB of all texts. Editors
# write more than 1 MiB (XMP with a history), and the picture beside it is sound.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Nobody can act on what a camera noted wrongly, image by image, and the picture is there.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")


def decode_image(encoded: bytes, *, value_range: ValueRange | None = None) -> Image.Image:
    """The picture in RGB, upright.

    Args:
        encoded: as its file is.
        value_range: what becomes black and white in 16-bit grey; None for all 16 bits. Pictures of
            8 bits have no use for it.

    Raises:
        DataError: it cannot be decoded; the message says why, and knows no path.
    """
    with _telling(), _open(encoded) as opened:
        _turn_upright(opened)
        return _to_rgb(opened, value_range)


def check_image(encoded: bytes) -> None:
    """Refuse what `decode_image` would refuse, in less time.

    Every byte of the pixels is decoded, but a JPEG's at an eighth of its size, and nothing is
    converted that always can be.

    Raises:
        DataError: see `decode_image`.
    """
    with _telling(), _open(encoded) as opened:
        opened.draft(None, (max(1, opened.width // 8), max(1, opened.height // 8)))
        opened.load()
        if opened.mode not in _CONVERTIBLE:
            _to_rgb(opened)


def may_be_deep(encoded: bytes) -> bool:
    """Whether the picture may be 16-bit grey, as far as its first bytes tell."""
    if encoded.startswith(_PNG):
        return encoded[24:26] == _GREY_16
    return not encoded.startswith(_SHALLOW) and not _GREY_8.match(encoded)


def value_extent(encoded: bytes) -> ValueRange | None:
    """The smallest and the largest value of a 16-bit grey picture; None for any other one.

    Raises:
        DataError: it cannot be decoded.
    """
    if not may_be_deep(encoded):
        return None
    with _telling(), _open(encoded) as opened:
        if opened.mode not in _SIXTEEN_BIT:
            return None
        values = np.asarray(opened)
        return int(values.min()), int(values.max())


def narrowed(extent: ValueRange) -> ValueRange | None:
    """The range that 16-bit pictures with these extremes are scaled by; None for all 16 bits.

    All 16 bits serve as long as they leave every second grey level of 8 bits in use.
    """
    low, high = extent
    if low == high or (low >= 0 and high <= _MOST and high - low >= _MOST // 2):
        return None
    return extent


def encoded_size(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels as they are stored, from the header alone.

    Raises:
        DataError: the header cannot be read.
    """
    with _telling(), _open(encoded) as opened:
        return opened.width, opened.height


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, with dot and in lower case, of the files that are taken for images."""
    Image.init()
    formats = Image.registered_extensions()
    return _PLUGIN_SUFFIXES | {
        suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _REFUSED
    }


@contextmanager
def _telling() -> Iterator[None]:
    """Whatever Pillow raises, as a `DataError`.

    Damaged files make its plugins raise nearly anything: OSError, SyntaxError, struct.error,
    IndexError, even AttributeError.
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
    """The header, read; pixels not yet."""
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
    """Formats that Pillow tries, the most common first.

    Args:
        known: number of formats that Pillow knows; a plugin adds to them.
    """
    del known
    common = ["JPEG", "PNG"]
    return common + [name for name in Image.ID if name not in _REFUSED and name not in common]


def _need_plugin(encoded: bytes) -> None:
    """Register what opens HEIC and AVIF, or say what to install."""
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
    # Broken notes of a camera are no reason to refuse its picture. Pillow warns of some of them.
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
