"""File format of rows: magic, count, ids, checksums of the rows, checksum of both, rows."""

from __future__ import annotations

import contextlib
import math
import os
import time
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint8]
"""(N, 32) SHA-256 of the examples' encoded bytes."""
Rows = npt.NDArray[Any]

SUFFIX = ".rows"
TEMPORARY = ".tmp"
ID_BYTES = 32

_TOUCH_EVERY_S = 60.0
_ALIGNMENT = 64
_MAGIC = b"sftrows1"


class RowFile:
    """A complete file of rows, mapped into memory.

    Attributes:
        ids: (N, 32) hashes of the examples.
        rows: (N, *shape) rows, read-only.
    """

    def __init__(self, path: Path, ids: Ids, checksums: npt.NDArray[np.uint32], rows: Rows) -> None:
        self.ids = ids
        self.rows = rows
        self._path = path
        self._checksums = checksums
        self._checked = np.zeros(len(ids), dtype=np.bool_)
        self._touched = -math.inf

    @classmethod
    def open(cls, path: Path, *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile | None:
        """Map a file; return None if it is missing, incomplete or damaged.

        Args:
            path: path of the file.
            shape: shape of a row.
            dtype: data type of a row.
        """
        try:
            with path.open("rb") as file:
                magic, count = file.read(len(_MAGIC)), int.from_bytes(file.read(8), "little")
                ids = np.frombuffer(file.read(count * ID_BYTES), np.uint8).reshape(count, -1)
                checksums = np.frombuffer(file.read(4 * count), np.uint32)
                body = _aligned(file.tell())
                whole = body + count * math.prod(shape) * dtype.itemsize
                if magic != _MAGIC or not count or os.fstat(file.fileno()).st_size != whole:
                    return None
                if zlib.crc32(ids.tobytes() + checksums.tobytes()) != int.from_bytes(
                    file.read(4), "little"
                ):
                    return None
                rows = np.memmap(file, dtype, "r", offset=body, shape=(count, *shape))
        except (OSError, ValueError, OverflowError, MemoryError):
            return None
        return cls(path, ids, checksums, rows)

    def check(self, row: int) -> bool:
        """Whether a row matches its checksum, computed once; a call counts as use of the file."""
        now = time.monotonic()
        if now - self._touched > _TOUCH_EVERY_S:
            self._touched = now
            with contextlib.suppress(OSError):
                os.utime(self._path)
        if not self._checked[row]:
            self._checked[row] = zlib.crc32(self.rows[row].data) == self._checksums[row]
        return bool(self._checked[row])


def _aligned(position: int) -> int:
    """Return the aligned position of the first row, behind a header that ends at `position`.

    The 4 bytes of the header's checksum lie between the two.
    """
    return -(-(position + 4) // _ALIGNMENT) * _ALIGNMENT


def write_rows(file: IO[bytes], ids: Ids, rows: Rows) -> None:
    """Write rows in the format that `RowFile.open` reads.

    Args:
        file: an empty file.
        ids: (N, 32) hashes of the examples.
        rows: (N, *shape) rows, contiguous.

    Raises:
        OSError: the disk is full, or the folder is gone.
    """
    checksums = np.asarray([zlib.crc32(row.data) for row in rows], dtype=np.uint32)
    head = ids.tobytes() + checksums.tobytes()
    file.write(_MAGIC + len(ids).to_bytes(8, "little") + head)
    position = file.tell()
    file.write(zlib.crc32(head).to_bytes(4, "little"))
    file.write(bytes(_aligned(position) - position - 4))
    file.write(rows.data)
