"""Encoded bytes -> an upright RGB picture: whatever Pillow decodes, each kind with one meaning.

- **Orientation** that a camera noted (EXIF) is applied.
- **Transparent** pixels lie on white, as on the page that cut-outs and drawings are made for;
  their hidden colour says nothing.
- **16-bit grey** (`I;16`, and `I`, which is how Pillow opens some of it) is scaled to 8 bits, not
  cut off at 255. Floating-point pixels are refused: no range is theirs.
- **Animations and stacks** give their first picture.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from trainable.errors import DataError

# EPS is a program that Ghostscript would run; of the others Pillow knows no more than the header.
_REFUSED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
_PLUGIN_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = frozenset({"RGB", "L", "1", "P", "RGBA", "CMYK", *_SIXTEEN_BIT})
_WHITE = (255, 255, 255, 255)

# A picture so large that Pillow warns of it takes the memory of a hundred others.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Of a PNG's texts and colour profile Pillow takes 1 MiB each, and 64 MiB of all texts. Editors
# write more than 1 MiB (XMP with a history), and the picture beside it is sound.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Nobody can act on what a camera noted wrongly, image by image, and the picture is there.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")


def read_picture(encoded: bytes) -> Image.Image:
    """The picture in RGB, upright.

    Raises:
        DataError: it cannot be decoded; the message says why, and knows no path.
    """
    with _telling(), _open(encoded) as opened:
        _turn_upright(opened)
        return _to_rgb(opened)


def check_picture(encoded: bytes) -> None:
    """Refuse what `read_picture` would refuse, in less time.

    Every byte of the pixels is decoded, but a JPEG's at an eighth of its size, and nothing is
    converted that always can be.

    Raises:
        DataError: see `read_picture`.
    """
    with _telling(), _open(encoded) as opened:
        opened.draft(None, (max(1, opened.width // 8), max(1, opened.height // 8)))
        opened.load()
        if opened.mode not in _CONVERTIBLE:
            _to_rgb(opened)


def picture_size(encoded: bytes) -> tuple[int, int]:
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
    """What Pillow may take a file for, the commonest first.

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


def _to_rgb(opened: Image.Image) -> Image.Image:
    if opened.mode == "RGB" and not opened.has_transparency_data:
        return opened
    if opened.mode in _SIXTEEN_BIT:
        values = np.clip(np.asarray(opened).astype(np.float64), 0, 65535)
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if opened.mode == "F":
        raise DataError(
            "cannot be decoded: floating-point pixels, whose range is unknown; save 8 or 16 bits"
        )
    if opened.has_transparency_data:
        layer = opened.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return opened.convert("RGB")
