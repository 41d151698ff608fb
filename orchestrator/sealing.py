"""A checksum over all of a Parquet file, which readers that do not know it pass over.

Parquet's own checksums cover pages, not the footer: with one bit changed in the name of a column,
a reader finds the column missing and nothing wrong. The footer is found from the end of a file and
says where pages lie, so what stands between the last page and the footer is read by nobody.

    PAR1 pages | SEAL crc32 | footer, its length, PAR1

The crc32 is of the file without the seal.
"""

from __future__ import annotations

import zlib

_MARK = b"SFTSEAL1"
_CRC_BYTES = 4
_SEAL_BYTES = len(_MARK) + _CRC_BYTES
_END_BYTES = 8
"""Of the length of the footer and the magic number after it."""


def sealed(content: bytes) -> bytes:
    """The same Parquet file with its seal.

    Args:
        content: of a Parquet file without one.
    """
    at = _footer_start(content)
    crc = zlib.crc32(content).to_bytes(_CRC_BYTES, "little")
    return b"".join((content[:at], _MARK, crc, content[at:]))


def is_broken(content: bytes) -> bool:
    """Whether a file has a seal that does not fit the rest of it; one without is not broken."""
    at = _footer_start(content)
    start = at - _SEAL_BYTES
    if start < 0 or content[start : start + len(_MARK)] != _MARK:
        return False
    view = memoryview(content)
    crc = zlib.crc32(view[at:], zlib.crc32(view[:start]))
    return crc != int.from_bytes(content[at - _CRC_BYTES : at], "little")


def _footer_start(content: bytes) -> int:
    length = int.from_bytes(content[-_END_BYTES:-4], "little")
    return len(content) - _END_BYTES - length
