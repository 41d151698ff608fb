"""Images that look the same although their bytes differ: bursts, re-encoded copies, crops.

Candidates are pairs whose perceptual hashes differ in a few bits; kept are those whose thumbnails
hardly differ, so that small images of similar things (two digits, two icons) do not count.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image

SIDE = 16
"""Side of the grey thumbnails that are compared, in pixels."""

_HASH_SIDE = 8
_BANDS = 4
_MOST_BITS = _BANDS - 1
_MOST_DIFFERENCE = 3.0
_LONGEST_BAND = 400

Thumbnails = npt.NDArray[np.uint8]


def thumbnails(images: LabelledExamples, indices: npt.NDArray[np.int64]) -> Thumbnails:
    """Return (M, 16, 16) grey thumbnails of some images, whose bytes have to be loaded.

    Raises:
        DataError: one cannot be decoded; the message names its path.
    """
    found = np.empty((len(indices), SIDE, SIDE), dtype=np.uint8)
    for row, index in enumerate(indices):
        try:
            picture = decode_image(images.encoded(int(index)), value_range=images.value_range)
        except DataError as error:
            raise DataError(f"{images.paths[index]}: {error}") from error
        found[row] = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return found


def near_duplicates(thumbs: Thumbnails) -> list[tuple[int, int]]:
    """Return pairs of rows whose images look the same, each pair once, ascending.

    The hash has one bit per pair of horizontal neighbours in an 8 x 8 reduction: whether the right
    one is brighter (dHash; N. Krawetz, "Kind of like that", 2013). It is cut into 4 bands. If at
    most 3 bits differ, some band is equal, so only rows with an equal band are compared.

    Args:
        thumbs: (M, 16, 16) uint8 of `thumbnails`.
    """
    if not len(thumbs):
        return []
    step = SIDE // _HASH_SIDE
    small = thumbs.reshape(-1, _HASH_SIDE, step, _HASH_SIDE, step).mean(axis=(2, 4))
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(thumbs), -1)
    pairs = {
        (a, b)
        for a, b in _with_an_equal_band(bits)
        if (bits[a] != bits[b]).sum() <= _MOST_BITS and _differ_little(thumbs[a], thumbs[b])
    }
    return sorted(pairs)


def _with_an_equal_band(bits: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    for band in np.array_split(np.arange(bits.shape[1]), _BANDS):
        rows: dict[bytes, list[int]] = {}
        for row, key in enumerate(np.packbits(bits[:, band], axis=1)):
            rows.setdefault(key.tobytes(), []).append(row)
        for members in rows.values():
            # Of many images with an equal band, such as blank ones, each is compared with the next
            # few only: enough to notice them, without quadratic time.
            reach = len(members) if len(members) <= _LONGEST_BAND else _BANDS
            for place, first in enumerate(members):
                for second in members[place + 1 : place + 1 + reach]:
                    yield first, second


def _differ_little(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> bool:
    return bool(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean() <= _MOST_DIFFERENCE)
