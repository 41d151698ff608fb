"""Pictures of test images beside their true and predicted masks, as `data:` URLs."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from orchestrator.datasets.thumbnails import tile
from orchestrator.reading.report.mask_winner import WorstMask
from orchestrator.reading.report.thumbnails import SIDE, data_url
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import decode_mask
from trainable.data.palette import overlaid
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image

_GAP = 4


def overlays(images: LabelledExamples, worst: Sequence[WorstMask]) -> dict[str, str]:
    """Return `data:` URLs of an image, the same under its true mask, and under the predicted one.

    Images that cannot be decoded are left out.

    Args:
        images: images of the sweep, with their masks.
        worst: those to be shown.
    """
    assert images.masks is not None
    ids = images.image_ids()
    places = {ids[index]: int(index) for index in images.indices(Split.TEST)}
    found = {}
    for one in worst:
        index = places.get(one.image_id)
        if index is None:
            continue
        try:
            encoded = images.encoded(index)
            picture = tile(decode_image(encoded, value_range=images.value_range), SIDE)
        except DataError:
            continue
        true, given = images.masks.mask(index), decode_mask(one.mask)
        shown = [picture, overlaid(picture, true), overlaid(picture, given)]
        whole = Image.new(
            "RGB", (3 * picture.width + 2 * _GAP, picture.height), color=(255, 255, 255)
        )
        for number, part in enumerate(shown):
            whole.paste(part, (number * (picture.width + _GAP), 0))
        found[one.image_id] = data_url(whole)
    return found
