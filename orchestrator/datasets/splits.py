"""Splits: the data's own, and the test split that is drawn from the content of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.name_keys import likeness
from trainable.data.labelled_examples import Split

SPLIT_WORDS: Mapping[str, Split] = {
    "train": Split.POOL,
    "training": Split.POOL,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "dev": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}
"""Names of splits in folders, files and columns, in lower case."""

SPLITS_ALLOWED = "train, val (or valid, validation, dev) and test"


def split_of(word: str) -> Split | None:
    """Return the split that a word names, or None."""
    return SPLIT_WORDS.get(likeness(word))


def content_uniform(digest: bytes, *, key: str) -> float:
    """Return a float in 0..1 for a content hash; equal images get equal floats.

    Args:
        digest: content hash.
        key: identifies the draw; draws with different keys are independent.
    """
    word = hashlib.blake2b(digest, key=key.encode(), digest_size=8).digest()
    return int.from_bytes(word, "big") / 2.0**64


def content_uniforms(
    digests: Iterable[npt.NDArray[np.uint8]], *, key: str
) -> npt.NDArray[np.float64]:
    """Return (N,) floats in 0..1, the `content_uniform` of each of N content hashes."""
    return np.asarray([content_uniform(digest.tobytes(), key=key) for digest in digests])


def test_key(seed: int) -> str:
    """Return the key of the draw of the test split."""
    return f"test/{seed}"


def share_of_test(
    digests: npt.NDArray[np.uint8], *, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Return (N,) whether each image is in the test split, with probability `share` each.

    An image stays in its split when others are added, removed or relabelled.
    """
    return content_uniforms(digests, key=test_key(seed)) < share


def share_of_groups(names: Sequence[str], *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return (G,) whether each group is in the test split, drawn from its name alone."""
    key = test_key(seed)
    uniforms = [content_uniform(hashlib.sha256(n.encode()).digest(), key=key) for n in names]
    return np.asarray(uniforms, dtype=np.float64) < share
