"""Thumbnails of images, all of one size."""

from __future__ import annotations

from PIL import Image


def tile(picture: Image.Image, side: int) -> Image.Image:
    """Return the image resized to a longer side of `side` pixels, or nearly.

    Smaller images are enlarged by an integer factor without interpolation, which would blur them.
    """
    small = picture.copy()
    small.thumbnail((side, side))
    scale = side // max(small.size)
    if scale > 1:
        larger = (small.width * scale, small.height * scale)
        small = small.resize(larger, Image.Resampling.NEAREST)
    return small
