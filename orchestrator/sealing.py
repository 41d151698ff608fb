"""A checksum over all of a Parquet file, which readers that do not know it pass over.

Parquet's own checksums cover pages, not the footer: with one bit changed in the name of a column,
a reader finds the column missing and nothing wrong. The footer is found from the end of a file and
says where pages lie, so what stands between the last page and the footer is read by nobody.

    PAR1 pages | SEAL crc32 | footer, its length, PAR1

The crc32 is of the file without the seal. The footer says that there is one (`FOOTNOTE`), so that a
seal that was hit itself is not taken for the absence of one, as in files of older versions.
"""

from __future__ import annotations

import zlib

FOOTNOTE = {b"sft_sweep.seal": b"crc32"}
"""What the metadata of a file's schema hold that is to be sealed."""

_MARK = b"SFTSEAL1"
_CRC_BYTES = 4
_SEAL_BYTES = len(_MARK) + _CRC_BYTES
_END_BYTES = 8
"""Of the length of the footer and the magic number after it."""


def sealed(content: bytes) -> bytes:
    """The same Parquet file with its seal.

    Args:
        content: of a Parquet file without one, whose schema has the footnote.
    """
    at = _footer_start(content)
    crc = zlib.crc32(content).to_bytes(_CRC_BYTES, "little")
    return b"".join((content[:at], _MARK, crc, content[at:]))


def is_broken(content: bytes) -> bool:
    """Whether a file has no seal that fits, although it says that it has one.

    Args:
        content: of a file that may be anything.
    """
    at = _footer_start(content)
    start = at - _SEAL_BYTES
    if start < 0 or content[start : start + len(_MARK)] != _MARK:
        return any(key in content for key in FOOTNOTE)
    view = memoryview(content)
    crc = zlib.crc32(view[at:], zlib.crc32(view[:start]))
    return crc != int.from_bytes(content[at - _CRC_BYTES : at], "little")


def _footer_start(content: bytes) -> int:
    length = int.from_bytes(content[-_END_BYTES:-4], "little")
    return len(content) - _END_BYTES - length
