"""The length that a text is padded to: a function of its own number of tokens alone.

So the row of a text has the same bits whatever texts are computed beside it: kernels choose the
order of their sums by shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

MAX_LENGTH = _LENGTHS[-1]
"""Most tokens that a text may have."""


def bucket_lengths(max_length: int) -> tuple[int, ...]:
    """All lengths that texts of at most `max_length` tokens are padded to, ascending."""
    return (*(length for length in _LENGTHS if length < max_length), max_length)


def padded_lengths(num_tokens: npt.NDArray[np.int64], *, max_length: int) -> npt.NDArray[np.int64]:
    """The smallest bucket that holds each text.

    Args:
        num_tokens: (M,) tokens of each text, none more than `max_length`.
        max_length: the last bucket.

    Returns:
        (M,) lengths, from `bucket_lengths(max_length)`.
    """
    lengths = np.asarray(bucket_lengths(max_length), dtype=np.int64)
    return lengths[np.searchsorted(lengths, num_tokens)]
