"""The test split, drawn from the content of the images alone."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def content_uniforms(digests: npt.NDArray[np.uint8], *, key: str) -> npt.NDArray[np.float64]:
    """(N,) floats in 0..1, one for each content hash: the same image always gets the same one.

    Args:
        digests: (N, 32) uint8 content hashes.
        key: tells independent draws apart.
    """
    words = [
        hashlib.blake2b(digest.tobytes(), key=key.encode(), digest_size=8).digest()
        for digest in digests
    ]
    return np.frombuffer(b"".join(words), dtype=">u8").astype(np.float64) / 2.0**64


def share_of_test(
    digests: npt.NDArray[np.uint8], *, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """(N,) whether each image is in the test split, each with probability `share`.

    An image keeps its side when others are added, removed or relabelled.
    """
    return content_uniforms(digests, key=f"test/{seed}") < share
