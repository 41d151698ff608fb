"""Small images with masks that a network learns in a few updates."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import IGNORED, Mask, Masks

CLASS_NAMES = ("background", "disc", "square")
SIDE = 32
LONG_SIDE = 40
"""Longer side of every third image, in turn its width and its height."""

PERIOD = 4
"""Pixels from one stripe to the next."""

LEAST_PIXELS = 60
"""Least pixels of each class in every image, some of which are ignored."""

Pixels = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]


def masked_examples(pool: int = 12, test: int = 6, *, seed: int = 0) -> LabelledExamples:
    """Images of a disc with level stripes and a square with upright ones, in noise, with masks.

    Some pixels of every mask are ignored.

    Args:
        pool: number of images of the pool, which come first.
        test: number of test images.
        seed: of all that is random.
    """
    random = np.random.default_rng(seed)
    sizes = [(SIDE, SIDE), (SIDE, LONG_SIDE), (LONG_SIDE, SIDE)]
    drawn = [_drawn(random, *sizes[number % 3]) for number in range(pool + test)]
    return from_pixels(
        [pixels for pixels, _ in drawn],
        [mask for _, mask in drawn],
        split=[Split.POOL] * pool + [Split.TEST] * test,
    )


def from_pixels(
    images: Sequence[Pixels],
    masks: Sequence[Mask],
    *,
    split: Sequence[Split] | None = None,
    class_names: Sequence[str] = CLASS_NAMES,
) -> LabelledExamples:
    """Images with masks, all of the pool unless a split is given.

    Args:
        images: (H, W, 3) RGB pixels of each.
        masks: (H, W) class ids of each, or `IGNORED`.
        split: of each image.
        class_names: name of each class id.
    """
    examples = LabelledExamples.from_bytes(
        [_png(pixels) for pixels in images],
        labels=[0] * len(images),
        split=split or [Split.POOL] * len(images),
        class_names=class_names,
        paths=[f"image{number}.png" for number in range(len(images))],
    )
    return replace(examples, masks=Masks.of(masks))


def with_masks(examples: LabelledExamples, masks: dict[int, Mask]) -> LabelledExamples:
    """The same images, some with other masks, which are given by their indices."""
    assert examples.masks is not None
    own = examples.masks
    return replace(
        examples, masks=Masks.of(masks.get(i, own.mask(i)) for i in range(len(examples)))
    )


def with_scrambled_masks(
    examples: LabelledExamples, indices: npt.NDArray[np.int64]
) -> LabelledExamples:
    """The same images, some with the classes of their masks in another order."""
    assert examples.masks is not None
    changed = {}
    for index in indices.tolist():
        mask = examples.masks.mask(index)
        other = ((mask + 1) % examples.num_classes).astype(np.uint8)
        changed[index] = np.where(mask == IGNORED, mask, other)
    return with_masks(examples, changed)


def _drawn(random: np.random.Generator, height: int, width: int) -> tuple[Pixels, Mask]:
    lines, columns = np.mgrid[:height, :width]
    mask = _shapes(random, lines, columns)
    while np.bincount(mask.ravel(), minlength=3).min() < LEAST_PIXELS:
        mask = _shapes(random, lines, columns)
    # No pixel shows by itself which stripes it belongs to, and brightness says little.
    stripes = [
        np.zeros(mask.shape),
        np.sin(lines * 2 * np.pi / PERIOD + random.uniform(0, 6)),
        np.sin(columns * 2 * np.pi / PERIOD + random.uniform(0, 6)),
    ]
    brightness = np.choose(mask, [128, 140, 116]) + 80 * np.choose(mask, stripes)
    noise = random.normal(0, 20, (height, width, 3))
    pixels = np.clip(brightness[:, :, None] + noise, 0, 255).astype(np.uint8)
    mask[: int(random.integers(1, 4))] = IGNORED
    mask[:, -1] = IGNORED
    return pixels, mask


def _shapes(random: np.random.Generator, lines: Positions, columns: Positions) -> Mask:
    """Class ids of a square and of a disc that may hide a part of it."""
    height, width = lines.shape
    mask = np.zeros((height, width), dtype=np.uint8)
    side = int(random.integers(9, 14))
    top, left = (int(random.integers(1, end - side - 1)) for end in (height, width))
    mask[top : top + side, left : left + side] = 2
    radius = random.uniform(5, 8)
    y, x = (random.uniform(radius, end - radius) for end in (height, width))
    mask[(lines - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
    return mask


def _png(pixels: Pixels) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()
