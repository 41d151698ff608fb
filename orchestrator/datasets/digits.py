"""The built-in data set: scikit-learn's 1,797 handwritten 8x8 digits, real scans.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.splits import content_uniforms, share_of_test
from trainable.data.labelled_examples import LabelledExamples, Split

NUM_TEST = 797
"""Images in the default test split: a fixed draw by content that does not depend on the seed."""


def load(*, test: float | None, seed: int) -> LabelledExamples:
    """Return all digits as 8x8 grey PGM files, which, unlike PNG, have exactly one encoding.

    Args:
        test: share of the images in the test split, drawn with `seed`; None for the fixed split.
        seed: seed of the sweep; only used if `test` is given.
    """
    ink, labels = scans()
    values = np.clip(ink * 16, 0, 255).astype(np.uint8)  # the scans count 0 to 16
    images = LabelledExamples.from_bytes(
        (b"P5 8 8 255\n" + image.tobytes() for image in values),
        labels=labels,
        split=np.full(len(values), Split.POOL),
        class_names=[str(digit) for digit in range(10)],
        paths=[f"digits/{i:04d}" for i in range(len(values))],
    )
    if test is None:
        order = np.argsort(content_uniforms(images.digests, key="digits"), kind="stable")
        chosen = np.isin(np.arange(len(values)), order[:NUM_TEST])
    else:
        chosen = share_of_test(images.digests, share=test, seed=seed)
    return replace(images, split=np.where(chosen, Split.TEST, Split.POOL).astype(np.int64))


def scans() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return (N, 8, 8) ink values in 0..16 and (N,) labels, as `sklearn.datasets.load_digits` does.

    Reads scikit-learn's data file directly if it is at its usual path: importing scikit-learn
    takes 0.5 s of CPU time, and nothing else here needs it.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as source:
            table = np.loadtxt(source, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)
