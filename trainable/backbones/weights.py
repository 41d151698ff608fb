"""Weights of a backbone from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.generic]]

RANDOM = "none"
"""Text after the @ for random weights."""


@dataclass(frozen=True)
class Preprocessing:
    """Steps from an encoded image to the input of a backbone.

    Attributes:
        image_size: side of the square cut out of the centre, in pixels.
        resize_size: shorter side before the cut, in pixels.
        interpolation: `bilinear` or `bicubic`.
        mean: mean of each of the three channels, on the 0..1 scale.
        std: standard deviation of each of the three channels, on the 0..1 scale.
        squash: whether both sides become `resize_size`, whatever the image's proportions.
    """

    image_size: int
    resize_size: int
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    squash: bool = False

    def resized(self, image_size: int) -> Preprocessing:
        """Return the same for another image size, which keeps the same share of the image."""
        if image_size == self.image_size:
            return self
        resize_size = round(image_size * self.resize_size / self.image_size)
        return replace(self, image_size=image_size, resize_size=resize_size)


IMAGENET_PREPROCESSING = Preprocessing(image_size=224, resize_size=256)
"""Preprocessing with which most networks trained on ImageNet were evaluated."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """A backbone with its weights, as plain arrays that can be memory-mapped read-only.

    Attributes:
        backbone: `NAME[@WEIGHTS]` as the user wrote it.
        source: name of the source of backbones that builds it.
        architecture: the source's name for the network.
        version: name of the weights in tables: their name at the source, the path of a file as it
            was given, or `none` for random ones.
        preprocessing: preprocessing of their pretraining.
        arrays: the state dict; entries of the head may be missing or of another shape.
        digest: SHA-256 of names and values.
        modality: kind of the examples that it takes, such as `image`.
        licence: of the weights, where it is known.
        pretraining: data they were trained on, where it is known.
        args: what the source builds the architecture with, beside the image size.
        notes: what the user should know of how they were found in a file, a line each.
    """

    backbone: str
    source: str
    architecture: str
    version: str
    preprocessing: Preprocessing
    arrays: Arrays
    digest: str
    modality: str = "image"
    licence: str | None = None
    pretraining: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """Metadata of a backbone's default weights, available without reading them.

    Attributes:
        name: name in search-space files.
        source: name of the source of backbones that has it.
        version: name of its default weights.
        num_params: parameters of the pretrained network, or None if it has to be built to know.
        image_size: side of its images in pixels.
        cached: whether the weights are on this machine.
        licence: licence of the weights, or None if unknown.
        pretraining: data they were trained on, or None if unknown.
    """

    name: str
    source: str
    version: str
    num_params: int | None
    image_size: int
    cached: bool
    licence: str | None
    pretraining: str | None


def digest_of(arrays: Arrays) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
