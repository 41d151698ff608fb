"""The built-in set of masks: scanned digits of five classes on textured canvases.

Every canvas is grey, 40 x 40 pixels, with two to four of scikit-learn's handwritten digits, each
enlarged by a factor of its own, over a background of smooth noise. The mask has the class of the
digit where there is ink. Everything is drawn from fixed seeds, and no digit is both in a canvas
of the pool and in one of the test split.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from orchestrator.datasets.digits import scans
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import Mask, Masks

SIDE = 40
NUM_POOL, NUM_TEST = 120, 100
CLASSES = ("background", "0", "1", "3", "4", "7")

_SIDES = (12, 18)
"""Smallest and largest side of a digit, in pixels."""

_INK = 5.0
"""Ink from which a pixel belongs to a digit, of 16."""

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def load() -> LabelledExamples:
    """Return all canvases with their masks, as 8-bit grey PGM files."""
    images, labels = scans()
    wanted = np.isin(labels, [int(name) for name in CLASSES[1:]])
    images, labels = images[wanted], labels[wanted]
    is_test = np.arange(len(labels)) % 2 == 1
    pixels: list[npt.NDArray[np.uint8]] = []
    masks: list[Mask] = []
    for split, number in ((Split.POOL, NUM_POOL), (Split.TEST, NUM_TEST)):
        rows = np.flatnonzero(is_test == (split == Split.TEST))
        for place in range(number):
            canvas, mask = _canvas(np.random.default_rng([split, place]), images, labels, rows)
            pixels.append(canvas)
            masks.append(mask)
    total = NUM_POOL + NUM_TEST
    examples = LabelledExamples.from_bytes(
        (f"P5 {SIDE} {SIDE} 255\n".encode() + one.tobytes() for one in pixels),
        labels=np.zeros(total, dtype=np.int64),
        split=[Split.POOL] * NUM_POOL + [Split.TEST] * NUM_TEST,
        class_names=CLASSES,
        paths=[f"canvases/{number:03d}" for number in range(total)],
    )
    return replace(examples, masks=Masks.of(masks))


def _canvas(
    rng: np.random.Generator, images: Reals, labels: Ints, rows: Ints
) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Draw one canvas and its mask.

    Args:
        rng: decides everything.
        images: (N, 8, 8) ink of the digits, 0..16.
        labels: (N,) digits.
        rows: (M,) those that may be used.
    """
    coarse = Image.fromarray(rng.uniform(0, 255, (6, 6)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)
    canvas = 0.35 * smooth + rng.normal(0, 12, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for row in rng.choice(rows, int(rng.integers(2, 5)), replace=False):
        side = int(rng.integers(*_SIDES, endpoint=True))
        digit = Image.fromarray(images[row].astype(np.float32))
        ink = np.asarray(digit.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 16)
        top, left = rng.integers(0, SIDE - side, 2, endpoint=True)
        place = np.s_[top : top + side, left : left + side]
        if (mask[place][ink >= _INK] > 0).any():
            continue  # digits do not overlap
        canvas[place] += ink * rng.uniform(8, 13)
        mask[place][ink >= _INK] = CLASSES.index(str(labels[row]))
    return canvas.clip(0, 255).astype(np.uint8), mask
