"""Preprocessing of images for a backbone: decoding, resizing, cropping and normalisation."""

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
"""Largest ratio of the longer to the shorter side when a picture is resized. A more oblong picture
is first cropped to this ratio, or else a file of a few bytes with one long line would take
gigabytes of memory when its shorter side is enlarged."""


def decode(
    images: LabelledExamples, indices: npt.NDArray[np.int64], preprocessing: Preprocessing
) -> Tensor:
    """Decode images, resize them by their shorter side, and crop the centre square.

    The pixels equal those of torchvision's ImageClassification preset on an upright Pillow image in
    RGB; see `decode_image`. `MOST_OBLONG` is the only exception.

    Args:
        images: the images, with their encoded bytes.
        indices: (M,) indices of the images to decode.
        preprocessing: preprocessing of the backbone; sizes, interpolation and squash are used.

    Returns:
        (M, 3, image_size, image_size) uint8 RGB pixels on the CPU.

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
        encoded: content of the image file.
        preprocessing: see `decode`.
        value_range: value range of the data set; see `decode_image`.

    Raises:
        DataError: the image cannot be decoded; the message has the reason but no path.
    """
    size = preprocessing.image_size
    return _pixels(_cut(_resized(encoded, preprocessing, value_range), size, size))


def resized_image(
    images: LabelledExamples, index: int, preprocessing: Preprocessing
) -> Image.Image:
    """Return one image in RGB, resized but not yet cropped; see `decode`."""
    with _naming(images.paths[index]):
        return _resized(images.encoded(index), preprocessing, images.value_range)


def smallest_side(images: LabelledExamples, indices: npt.NDArray[np.int64]) -> int:
    """Smallest side among some images, in pixels; only their headers are read.

    Raises:
        DataError: a header cannot be read; the message names its path.
    """
    sides = []
    for index in indices:
        with _naming(images.paths[index]):
            sides.append(min(encoded_size(images.encoded(int(index)))))
    return min(sides)


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(M, 3, S, S) float32 input of a backbone, from uint8 pixels, on the pixels' device."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Put the path of an image in front of every `DataError` of the block."""
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
    """Crop the longer side to at most `MOST_OBLONG` times the shorter side, around the centre."""
    longest = min(picture.size) * MOST_OBLONG
    width, height = (min(side, longest) for side in picture.size)
    return picture if (width, height) == picture.size else _cut(picture, width, height)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _resize(picture: Image.Image, short: int, resampling: Image.Resampling) -> Image.Image:
    """Resize a picture to a shorter side of `short` pixels; the longer side is rounded down."""
    width, height = picture.size
    if min(width, height) == short:
        return picture
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    return picture.resize(size, resampling)


def _cut(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Crop the centre of a picture to a width and height in pixels."""
    left = round((picture.width - width) / 2)
    top = round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))
