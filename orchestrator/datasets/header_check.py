"""Detection of JPEG and PNG files that are certain to decode, without decoding them.

Decoding a small image takes three times as long as reading it, so in a large folder the search for
broken images would dominate the start. Less work shows whether a decoder accepts a file:

- **JPEG**: decoders tolerate damaged picture data, and refuse damaged tables, a wrong marker or a
  missing end. So a file decodes if its tables equal those of a file that was decoded, and its
  picture data runs to the end of the file without another marker.
- **PNG**: every chunk has a checksum. A file decodes if its chunks are intact and its header is of
  the kind of a file that was decoded.

All other files are decoded.
"""

from __future__ import annotations

import re
import zlib

from PIL import Image

_SOF, _SOS, _EOI, _EXIF, _COMMENT = (0xC0, 0xC1, 0xC2), 0xDA, b"\xff\xd9", 0xE1, 0xFE
_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xEE})
"""Huffman and quantisation tables, restart interval, JFIF and Adobe segments."""
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""A marker in picture data that is neither a stuffed 0xFF nor a restart marker."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PNG_NOTES = frozenset({b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"tEXt", b"bKGD"})
_MAX_NOTE_BYTES = 2**16


def kind_of(encoded: bytes) -> bytes | None:
    """Return a key of a JPEG or PNG file; files with equal keys all decode, or none does.

    Returns:
        The key, or None if the file has to be decoded to find out.
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        return _jpeg_kind(encoded)
    if encoded.startswith(_PNG):
        return _png_kind(encoded)
    return None


def _jpeg_kind(encoded: bytes) -> bytes | None:
    parts, at, frames = [], 2, 0
    while True:
        header = encoded[at : at + 4]
        if len(header) < 4 or header[0] != 0xFF:
            return None
        marker, stop = header[1], at + 2 + (header[2] << 8 | header[3])
        if marker in _TABLES:
            parts.append(encoded[at:stop])
        elif marker in _SOF:
            frames += 1
            size = encoded[at + 5 : at + 9]
            if not _allowed(int.from_bytes(size[2:]), int.from_bytes(size[:2])):
                return None
            parts.append(encoded[at : at + 5] + encoded[at + 9 : stop])
        elif marker == _SOS:
            parts.append(encoded[at:stop])
            break
        elif marker not in (_EXIF, _COMMENT):
            return None
        at = stop
    end = _MARKER.search(encoded, stop)
    if frames != 1 or end is None or end.group() != _EOI or end.end() != len(encoded):
        return None
    return b"".join(parts)


def _png_kind(encoded: bytes) -> bytes | None:
    if not encoded.endswith(_PNG_END):
        return None
    parts: list[bytes] = []
    at, last = len(_PNG), len(encoded) - len(_PNG_END)
    while at < last:
        length, name = encoded[at : at + 4], encoded[at + 4 : at + 8]
        stop = at + 8 + int.from_bytes(length)
        checksum = int.from_bytes(encoded[stop : stop + 4])
        if stop + 4 > last or zlib.crc32(encoded[at + 4 : stop]) != checksum:
            return None
        if not parts:
            width, height = encoded[at + 8 : at + 12], encoded[at + 12 : at + 16]
            if (name, stop) != (b"IHDR", at + 21) or not _allowed(
                int.from_bytes(width), int.from_bytes(height)
            ):
                return None
            parts.append(encoded[at + 16 : stop])
        elif name in (b"PLTE", b"tRNS"):
            parts.append(name + length)
        elif name == b"IDAT":
            if parts[-1] != name:
                parts.append(name)
        elif name not in _PNG_NOTES or stop - at > _MAX_NOTE_BYTES:
            return None
        at = stop + 4
    return _PNG + b"".join(parts) if parts and parts[-1] == b"IDAT" else None


def _allowed(width: int, height: int) -> bool:
    limit = Image.MAX_IMAGE_PIXELS
    return width * height > 0 and (limit is None or width * height <= limit)
