"""The embedded data set: scikit-learn's 1,797 handwritten 8x8 digits, real scans.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orchestrator.sources.splits import content_uniforms, share_of_test
from trainable.images import LabelledImages, Split

NUM_TEST = 797
"""Images of the source's own test split: a fixed draw by content, whatever the sweep's seed."""


def load(*, test: float | None, seed: int) -> LabelledImages:
    """All digits, as 8x8 grey PGM files (which, unlike PNG, have one encoding only).

    Args:
        test: share of the images in the test split, drawn with `seed`; None for the fixed split.
        seed: of the sweep; only used where `test` is given.
    """
    from sklearn.datasets import load_digits  # two seconds that other images do without

    digits = load_digits()
    values = np.clip(digits.images * 16, 0, 255).astype(np.uint8)  # the scans count 0 to 16
    images = LabelledImages.from_bytes(
        (b"P5 8 8 255\n" + image.tobytes() for image in values),
        labels=digits.target,
        split=np.full(len(values), Split.POOL),
        class_names=[str(name) for name in digits.target_names],
        paths=[f"digits/{i:04d}" for i in range(len(values))],
    )
    if test is None:
        order = np.argsort(content_uniforms(images.digests, key="digits"), kind="stable")
        chosen = np.isin(np.arange(len(values)), order[:NUM_TEST])
    else:
        chosen = share_of_test(images.digests, share=test, seed=seed)
    return replace(images, split=np.where(chosen, Split.TEST, Split.POOL).astype(np.int64))
