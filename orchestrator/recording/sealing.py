"""A checksum over all of a Parquet file, which readers that do not know it pass over.

Parquet's own checksums cover pages, not the footer: with one bit changed in the name of a column,
a reader finds the column missing and nothing wrong. The footer is found from the end of a file and
says where pages lie, so what stands between the last page and the footer is read by nobody.

    PAR1 pages | MARK crc32 MARK | footer, its length, PAR1

The crc32 is of the file without the seal. One mark is enough, so that a seal that was hit itself is
not taken for the absence of one, as in files that other programs wrote.
"""

from __future__ import annotations

import zlib

_MARK = b"SFTSEAL1"
_CRC_BYTES = 4
_SEAL_BYTES = 2 * len(_MARK) + _CRC_BYTES
_END_BYTES = 8
"""Of the length of the footer and the magic number after it."""


def sealed(content: bytes) -> bytes:
    """The same Parquet file with its seal.

    Args:
        content: of a Parquet file without one.
    """
    at = _footer_start(content)
    crc = zlib.crc32(content).to_bytes(_CRC_BYTES, "little")
    return b"".join((content[:at], _MARK, crc, _MARK, content[at:]))


def is_broken(content: bytes) -> bool:
    """Whether a file has a seal that does not fit the rest of it; one without is not broken.

    Args:
        content: of a file that may be anything.
    """
    at = _footer_start(content)
    start = max(0, at - _SEAL_BYTES)
    seal = content[start:at]
    if not (seal.startswith(_MARK) or seal.endswith(_MARK)):
        return False
    view = memoryview(content)
    crc = zlib.crc32(view[at:], zlib.crc32(view[:start])).to_bytes(_CRC_BYTES, "little")
    return seal != _MARK + crc + _MARK


def _footer_start(content: bytes) -> int:
    """Where the footer begins; a negative number where the file cannot hold what it says."""
    length = int.from_bytes(content[-_END_BYTES:-4], "little")
    return len(content) - _END_BYTES - length
