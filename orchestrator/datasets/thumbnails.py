"""Small pictures of images, all of one size."""

from __future__ import annotations

from PIL import Image


def tile(picture: Image.Image, side: int) -> Image.Image:
    """The picture with a longer side of `side` pixels, or nearly.

    What is smaller is enlarged by a whole number, in its own pixels: it would be a blur otherwise.
    """
    small = picture.copy()
    small.thumbnail((side, side))
    scale = side // max(small.size)
    if scale > 1:
        larger = (small.width * scale, small.height * scale)
        small = small.resize(larger, Image.Resampling.NEAREST)
    return small
