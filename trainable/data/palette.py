"""The colours of classes in pictures of masks, and index PNGs that have them."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image

from trainable.data.masks import IGNORED, Mask

_OPACITY = 0.55

_GOLDEN = 0.618034
"""Step of the hue from class to class, in turns, which keeps neighbours apart."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class, by its id; the first class is black."""
    if not number:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def indexed(mask: Mask) -> Image.Image:
    """Return a mask as a picture whose pixels are class ids, with the colours as its palette."""
    height, width = mask.shape
    picture = Image.frombytes("P", (width, height), mask.tobytes())
    picture.putpalette([value for number in range(IGNORED + 1) for value in colour_of(number)])
    return picture


def overlaid(picture: Image.Image, mask: Mask) -> Image.Image:
    """Return a picture under the colours of a mask of any size; the first class has none."""
    resized = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
    ids = np.asarray(resized)
    colours = np.asarray([colour_of(number) for number in range(IGNORED + 1)], dtype=np.float64)
    under = np.asarray(picture.convert("RGB"), dtype=np.float64)
    coloured = ((ids > 0) & (ids != IGNORED))[..., None]
    mixed = np.where(coloured, (1 - _OPACITY) * under + _OPACITY * colours[ids], under)
    return Image.fromarray(mixed.astype(np.uint8))
