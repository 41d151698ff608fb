"""What the report shows of examples: thumbnails of images as `data:` URLs, beginnings of texts."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection

from PIL import Image

from orchestrator.datasets.thumbnails import tile
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image
from trainable.modalities.text.decoding import decode_text

SIDE = 96
"""Side of each thumbnail, in pixels."""


MOST_CHARACTERS = 300
"""Characters that are shown of a text."""


def beginnings(texts: LabelledExamples, ids: Collection[str]) -> dict[str, str]:
    """Return the beginnings of test texts by id.

    Args:
        texts: texts of the sweep.
        ids: ids in the table of predictions.
    """
    found: dict[str, str] = {}
    for index, text_id in enumerate(texts.image_ids()):
        if text_id in ids and texts.split[index] == Split.TEST:
            text = decode_text(texts.encoded(index))
            cut = "..." if len(text) > MOST_CHARACTERS else ""
            found[text_id] = text[:MOST_CHARACTERS] + cut
    return found


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
            found[ids[index]] = data_url(picture)
    return found


def data_url(picture: Image.Image) -> str:
    """Return the `data:` URL of a picture."""
    sink = io.BytesIO()
    picture.save(sink, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
