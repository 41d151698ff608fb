"""Numeric arrays as short text, for predictions in a journal of JSON lines."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

_COMPRESSED = "zlib"


def to_text(array: npt.NDArray[np.generic]) -> str:
    """Return `dtype:base64` of a 1-d array, little-endian; bytes, such as masks, are compressed."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    content = little.tobytes()
    if array.dtype == np.uint8:
        return f"{_COMPRESSED}:{base64.b64encode(zlib.compress(content)).decode()}"
    return f"{little.dtype.str}:{base64.b64encode(content).decode()}"


def from_text(text: str) -> npt.NDArray[np.generic]:
    """Return the array that `to_text` wrote."""
    kind, _, data = text.partition(":")
    if kind == _COMPRESSED:
        return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(kind))
