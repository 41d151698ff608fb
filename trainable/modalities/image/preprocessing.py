"""Encoded images -> pixels of the size that a backbone sees, and their scale for its input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import DataError
from trainable.modalities.image.decoding import ValueRange, decode_image, encoded_size

MOST_OBLONG = 32
"""Longer side over shorter side of a picture that is resized. A cut from its middle stands for one
that exceeds it: otherwise a few bytes that hold one long line would take gigabytes when resized."""


def decode(
    images: LabelledExamples, indices: npt.NDArray[np.int64], preprocessing: Preprocessing
) -> Tensor:
    """RGB pixels: resized by the shorter side, then cut to the centre square.

    The same arithmetic as torchvision's ImageClassification preset on a Pillow image, which
    `trainable.modalities.image.decoding` made RGB and upright; see `MOST_OBLONG` for the exception.

    Args:
        images: where the encoded bytes lie.
        indices: (M,) which of them.
        preprocessing: sizes, interpolation and squash are read.

    Returns:
        (M, 3, image_size, image_size) uint8 on the CPU.

    Raises:
        DataError: an image cannot be decoded; the message names its path.
    """
    size = preprocessing.image_size
    pixels = torch.empty((len(indices), 3, size, size), dtype=torch.uint8)
    for row, index in enumerate(indices):
        pixels[row] = _pixels(_cut(resized_image(images, int(index), preprocessing), size, size))
    return pixels


def decode_one(
    encoded: bytes, preprocessing: Preprocessing, *, value_range: ValueRange | None = None
) -> Tensor:
    """(3, image_size, image_size) uint8 pixels of one encoded image; see `decode`.

    Args:
        encoded: as its file is.
        preprocessing: see `decode`.
        value_range: that of the data set; see `decode_image`.

    Raises:
        DataError: it cannot be decoded; the message says why, and knows no path.
    """
    size = preprocessing.image_size
    return _pixels(_cut(_resized(encoded, preprocessing, value_range), size, size))


def resized_image(
    images: LabelledExamples, index: int, preprocessing: Preprocessing
) -> Image.Image:
    """One image in RGB, resized but not yet cut; see `decode`."""
    with _naming(images.paths[index]):
        return _resized(images.encoded(index), preprocessing, images.value_range)


def smallest_side(images: LabelledExamples, indices: npt.NDArray[np.int64]) -> int:
    """Shortest side among some images, in pixels, from their headers alone.

    Raises:
        DataError: a header cannot be read; the message names its path.
    """
    sides = []
    for index in indices:
        with _naming(images.paths[index]):
            sides.append(min(encoded_size(images.encoded(int(index)))))
    return min(sides)


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(M, 3, S, S) float32 input of a backbone from uint8 pixels, on the pixels' device."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors in the images, with the path of the image."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _resized(
    encoded: bytes, preprocessing: Preprocessing, value_range: ValueRange | None
) -> Image.Image:
    short = preprocessing.resize_size
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    picture = decode_image(encoded, value_range=value_range)
    try:
        if preprocessing.squash:
            return picture.resize((short, short), resampling)
        return _resize(_middle(picture), short, resampling)
    except MemoryError as error:
        raise DataError(
            f"cannot be resized: no memory for {picture.width} x {picture.height} pixels with a "
            f"shorter side of {short}"
        ) from error


def _middle(picture: Image.Image) -> Image.Image:
    """The picture, its longer side cut to `MOST_OBLONG` times its shorter one."""
    longest = min(picture.size) * MOST_OBLONG
    width, height = (min(side, longest) for side in picture.size)
    return picture if (width, height) == picture.size else _cut(picture, width, height)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _resize(picture: Image.Image, short: int, resampling: Image.Resampling) -> Image.Image:
    """The image with a shorter side of `short` pixels, the longer one rounded down."""
    width, height = picture.size
    if min(width, height) == short:
        return picture
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    return picture.resize(size, resampling)


def _cut(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The centre of an image, so many pixels wide and high."""
    left = round((picture.width - width) / 2)
    top = round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))
