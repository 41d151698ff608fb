"""Folders of small images and of their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT, WIDTH = 8, 12
ORIENTATION = 274

Ids = npt.NDArray[np.integer[Any]]


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    """Write a picture, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def save_image(
    path: Path, number: int, *, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int = 1
) -> Path:
    """Write an image like no other: its pixels follow from its number alone.

    Args:
        path: where to.
        number: of the image.
        size: width and height as stored.
        orientation: by EXIF.
    """
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return save(path, Image.fromarray(pixels), **({"exif": exif} if orientation > 1 else {}))


def stripes(*values: int, number: int = 0) -> Ids:
    """(HEIGHT, WIDTH) values side by side, moved by the number of the mask."""
    lines = np.repeat(np.resize(values, WIDTH)[None], HEIGHT, axis=0)
    lines[: 1 + number % (HEIGHT - 1), : 1 + number % 3] = values[0]
    return lines


def save_mask(path: Path, ids: Ids) -> Path:
    """Write a mask, of 16 bits where 8 do not do."""
    dtype = np.uint8 if ids.max() < 256 else np.uint16
    return save(path, Image.fromarray(ids.astype(dtype)))


def write_masks(
    root: Path, *values: int, number: int = 30, start: int = 0, folder: str = "{kind}"
) -> Path:
    """Write images and masks that hold these values; the root.

    Args:
        root: above both.
        values: of pixels.
        number: of images.
        start: number of the first image.
        folder: where images and masks lie, `{kind}` of which is `images` or `masks`.
    """
    for place in range(start, start + number):
        save_image(root / folder.format(kind="images") / f"{place:02d}.png", place)
        target = root / folder.format(kind="masks") / f"{place:02d}.png"
        save_mask(target, stripes(*(values or (0, 1, 2)), number=place))
    return root
