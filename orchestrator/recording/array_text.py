"""Numeric arrays as short text, for predictions in a journal of JSON lines."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt


def to_text(array: npt.NDArray[np.generic]) -> str:
    """Return `dtype:base64` of a 1-d array, little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return f"{little.dtype.str}:{base64.b64encode(little.tobytes()).decode()}"


def from_text(text: str) -> npt.NDArray[np.generic]:
    """Return the array that `to_text` wrote."""
    kind, _, data = text.partition(":")
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(kind))
