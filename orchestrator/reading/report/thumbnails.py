"""Small pictures inside a page: images of the data set as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection

from orchestrator.datasets.thumbnails import tile
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image

SIDE = 96
"""Of each picture, in pixels."""


def thumbnails(images: LabelledExamples, image_ids: Collection[str]) -> dict[str, str]:
    """`data:` addresses of some test images by their id; those that cannot be shown are left out.

    Args:
        images: of the sweep.
        image_ids: as the table of predictions has them.
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
