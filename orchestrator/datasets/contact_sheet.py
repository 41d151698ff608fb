"""A picture of a data set: a few images of every class, side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from orchestrator.datasets.holders import holders
from orchestrator.datasets.thumbnails import tile
from orchestrator.text import printable
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.palette import overlaid
from trainable.modalities.image.decoding import decode_image

TILE = 72
"""Side of each image, in pixels."""

_GAP = 4
_LABEL_WIDTH = 160
_MOST_NAME_CHARS = 24
_BACKGROUND, _INK = (255, 255, 255), (30, 30, 30)


def contact_sheet(
    images: LabelledExamples,
    rows: npt.NDArray[np.int64],
    *,
    per_class: int = 10,
    max_classes: int = 40,
) -> Image.Image:
    """Draw one line per class, with its name and the first of its images among `rows`.

    Images that have masks are drawn under these.

    Args:
        images: the images of a data set.
        rows: (M,) indices of the images that can be shown; their bytes have to be loaded.
        per_class: largest number of images per class.
        max_classes: largest number of classes; the first ones are shown.

    Raises:
        DataError: an image cannot be decoded.
    """
    held = holders(images)
    classes = [
        (name, chosen)
        for label, name in enumerate(images.class_names)
        if len(chosen := rows[held[rows, label]][:per_class])
    ][:max_classes]
    size = (_LABEL_WIDTH + per_class * (TILE + _GAP), max(1, len(classes)) * (TILE + _GAP))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for line, (name, chosen) in enumerate(classes):
        top = line * (TILE + _GAP)
        draw.text((_GAP, top + TILE // 2 - 6), _short(name), fill=_INK)
        for column, index in enumerate(chosen):
            picture = decode_image(images.encoded(int(index)), value_range=images.value_range)
            picture = tile(picture, TILE)
            if images.masks is not None:
                picture = overlaid(picture, images.masks.mask(int(index)))
            sheet.paste(picture, (_LABEL_WIDTH + column * (TILE + _GAP), top))
    return sheet


def _short(name: str) -> str:
    """Return a class name on one line of bounded length, in characters of the built-in font."""
    line = printable(name)
    return line if len(line) <= _MOST_NAME_CHARS else line[: _MOST_NAME_CHARS - 3] + "..."
