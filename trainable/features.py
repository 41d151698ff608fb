"""What is computed once per image: decoded pixels, and the frozen prefix's activations of them."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from trainable.backbones import Preprocessing
from trainable.device import autocast
from trainable.errors import DataError
from trainable.images import LabelledImages

BATCH = 256
"""Images per forward pass where nothing is trained."""

# Pillow calls a broken PNG a SyntaxError.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def decode(images: LabelledImages, indices: npt.NDArray[np.int64], *, image_size: int) -> Tensor:
    """RGB pixels: resized so that the shorter side fits, then cut to the centre square.

    Args:
        images: where the encoded bytes lie.
        indices: (M,) which of them.
        image_size: side of the square, in pixels.

    Returns:
        (M, 3, image_size, image_size) uint8 on the CPU.

    Raises:
        DataError: an image cannot be decoded; the message names its path.
    """
    pixels = torch.empty((len(indices), 3, image_size, image_size), dtype=torch.uint8)
    for row, index in enumerate(indices):
        try:
            with Image.open(io.BytesIO(images.encoded(int(index)))) as opened:
                picture = _square(opened.convert("RGB"), image_size)
        except _UNREADABLE as error:
            raise DataError(f"{images.paths[index]}: cannot be decoded: {error}") from error
        pixels[row] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return pixels


def smallest_side(images: LabelledImages, indices: npt.NDArray[np.int64]) -> int:
    """Shortest side among some images, in pixels, from their headers alone.

    Raises:
        DataError: a header cannot be read; the message names its path.
    """
    sides = []
    for index in indices:
        try:
            with Image.open(io.BytesIO(images.encoded(int(index)))) as opened:
                sides.append(min(opened.size))
        except _UNREADABLE as error:
            raise DataError(f"{images.paths[index]}: cannot be decoded: {error}") from error
    return min(sides)


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(M, 3, S, S) float32 input of a backbone from uint8 pixels, on the pixels' device."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


@torch.no_grad()
def activations(
    prefix: nn.Module,
    pixels: Tensor,
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: str,
) -> Tensor:
    """What the frozen prefix makes of some images.

    Args:
        prefix: images -> activations, in eval mode, on `device`.
        pixels: (M, 3, S, S) uint8.
        preprocessing: of the backbone.
        device: to compute on and to keep the result on.
        precision: `fp32` or `bf16`.

    Returns:
        (M, *shape) float tensor on `device`.
    """
    parts = []
    for start in range(0, len(pixels), BATCH):
        batch = normalize(pixels[start : start + BATCH].to(device), preprocessing)
        with autocast(precision, device):
            parts.append(prefix(batch))
    return torch.cat(parts)


def _square(picture: Image.Image, side: int) -> Image.Image:
    """The centre square of an image, `side` pixels wide."""
    width, height = picture.size
    if (width, height) == (side, side):
        return picture
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
