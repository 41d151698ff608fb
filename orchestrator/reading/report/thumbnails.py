"""Thumbnails of images as `data:` URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection

from orchestrator.datasets.thumbnails import tile
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image

SIDE = 96
"""Side of each thumbnail, in pixels."""


def thumbnails(images: LabelledExamples, image_ids: Collection[str]) -> dict[str, str]:
    """Return `data:` URLs of test images by id; those that cannot be decoded are left out.

    Args:
        images: images of the sweep.
        image_ids: ids in the table of predictions.
    """
    ids = images.image_ids()
    found: dict[str, str] = {}
    for index in images.indices(Split.TEST):
        if ids[index] in image_ids and ids[index] not in found:
            try:
                encoded = images.encoded(int(index))
                picture = tile(decode_image(encoded, value_range=images.value_range), SIDE)
            except DataError:
                continue
            sink = io.BytesIO()
            picture.save(sink, format="PNG", optimize=True)
            found[ids[index]] = "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode(
                "ascii"
            )
    return found
