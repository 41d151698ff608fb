"""Weights of a backbone from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainable.errors import BackboneError
from trainable.spec.settings import POOLINGS, UNITS

Arrays = Mapping[str, npt.NDArray[np.generic]]

DECODED = "decoded"
"""Source of the weights of backbones under a decoder; it has no names of its own."""

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

    @property
    def size(self) -> int:
        """The size of input that is meant where none is named."""
        return self.image_size

    @property
    def pooling(self) -> str:
        """None: what a network does with the parts of an image is its own."""
        return ""

    def resized(self, image_size: int) -> Preprocessing:
        """Return the same for another image size, which keeps the same share of the image."""
        if image_size == self.image_size:
            return self
        resize_size = round(image_size * self.resize_size / self.image_size)
        return replace(self, image_size=image_size, resize_size=resize_size)


IMAGENET_PREPROCESSING = Preprocessing(image_size=224, resize_size=256)
"""Preprocessing with which most networks trained on ImageNet were evaluated."""


@dataclass(frozen=True, kw_only=True)
class TextPreprocessing:
    """Steps from a text to the vector that stands for it, as far as its folder decides them.

    Attributes:
        max_length: most tokens of a text, special ones included; what does not fit is cut off.
        tokenizer: SHA-256 of the content of `tokenizer.json`, in hexadecimal.
        pad_id: token that fills up short texts, on their right.
        pooling: how the tokens' vectors become one, of `POOLINGS`.
        normalize: whether that vector is divided by its length.
        prompt: stands before every text; empty for none.
        lowercase: whether texts are put in lower case before the tokenizer sees them.
        truncate: what is kept of a text that is too long, of `TRUNCATIONS`.
    """

    max_length: int
    tokenizer: str
    pad_id: int
    pooling: str
    normalize: bool
    prompt: str = ""
    lowercase: bool = False
    truncate: str = "head"

    @property
    def size(self) -> int:
        """The size of input that is meant where none is named."""
        return self.max_length

    def before_pooling(self, size: int) -> TextPreprocessing:
        """What the tokens of texts depend on, where at most `size` are kept."""
        return replace(self, max_length=size, pooling=POOLINGS[0], normalize=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """A backbone with its weights, as plain arrays that can be memory-mapped read-only.

    Attributes:
        backbone: `NAME[@WEIGHTS]` as the user wrote it.
        source: which source of backbones builds it.
        architecture: the name by which the source knows it.
        version: which weights these are, as tables show it: their name at the source, the path of a
            file as it was given, or `none` for random ones.
        preprocessing: from an encoded example to what they were trained on.
        arrays: the state dict; entries of the head may be missing or of another shape.
        digest: SHA-256 of names and values.
        licence: of the weights, where it is known.
        pretraining: data they were trained on, where it is known.
        args: what the source builds the architecture with, beside the size of its input.
        notes: what the user should know of how they were found in a file, a line each.
        modality: what the backbone takes: `image` or `text`.
        task: what it is for: `classification`, or `segmentation` if it gives a map of classes.
    """

    backbone: str
    source: str
    architecture: str
    version: str
    preprocessing: Preprocessing | TextPreprocessing
    arrays: Arrays
    digest: str
    licence: str | None = None
    pretraining: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    modality: str = "image"
    task: str = "classification"

    @property
    def undecoded(self) -> Weights:
        """The same as those of the encoder under a decoder; themselves where there is none."""
        if self.source != DECODED:
            return self
        return replace(
            self, source=self.args["source"], args=self.args["args"], task="classification"
        )

    @property
    def image_preprocessing(self) -> Preprocessing:
        """From an encoded image to what the backbone was trained on.

        Raises:
            BackboneError: it takes no images.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise BackboneError(f"{self.backbone} takes texts; allowed: a backbone of images")
        return self.preprocessing

    @property
    def text_preprocessing(self) -> TextPreprocessing:
        """From a text to what the backbone was trained on.

        Raises:
            BackboneError: it takes no texts.
        """
        if not isinstance(self.preprocessing, TextPreprocessing):
            raise BackboneError(f"{self.backbone} takes images; allowed: a backbone of texts")
        return self.preprocessing


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """Metadata of a backbone's default weights, available without reading them.

    Attributes:
        name: as search-space files write it.
        source: which source of backbones has it.
        version: its default weights.
        num_params: of the network as it was pretrained, where that is known unbuilt.
        input_size: side of a square image in pixels, or longest text in tokens, that it is used
            with where no other is named.
        cached: whether the weights are on this machine.
        licence: of the weights, where it is known.
        pretraining: data they were trained on, where it is known.
        modality: what it takes: `image` or `text`.
        task: see `Weights`.
    """

    name: str
    source: str
    version: str
    num_params: int | None
    input_size: int
    cached: bool
    licence: str | None
    pretraining: str | None
    modality: str = "image"
    task: str = "classification"

    @property
    def input(self) -> str:
        """The size of its input with the unit, such as `224 px`."""
        return f"{self.input_size} {UNITS[self.modality]}"


def digest_of(arrays: Arrays) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
