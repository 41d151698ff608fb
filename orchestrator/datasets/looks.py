"""What is measured of the examples of a data set, by their modality, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.datasets.listing import Ints, Note
from orchestrator.datasets.near_duplicates import near_duplicates, thumbnails
from orchestrator.datasets.texts import preview
from orchestrator.text import plural
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.modalities.image.decoding import encoded_size

MOST_COMPARED = 20_000
"""Images that are looked through for near duplicates, the first ones."""
_EXAMPLES_A_CLASS = 3


class Looks(Protocol):
    """Measurements of the examples that were read."""

    @property
    def examples(self) -> Sequence[Sequence[str]]:
        """By class, some examples that can be shown as text; empty where they cannot."""

    def lines(self) -> list[str]:
        """One line for each measurement."""

    def notes(self) -> list[Note]:
        """What is worth a second look."""

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values."""


@dataclass(frozen=True, kw_only=True)
class ImageLooks:
    """Sizes of images, and images that look the same.

    Attributes:
        widths: smallest, median and largest, in pixels.
        heights: smallest, median and largest, in pixels.
        near_duplicates: pairs of paths of pictures that look the same.
    """

    widths: tuple[int, ...]
    heights: tuple[int, ...]
    near_duplicates: tuple[tuple[str, str], ...]

    @property
    def examples(self) -> Sequence[Sequence[str]]:
        """None: a contact sheet shows images."""
        return ()

    def lines(self) -> list[str]:
        """See `Looks`."""
        widths, heights = _slashed(self.widths), _slashed(self.heights)
        return [f"pixels, smallest / median / largest: {widths} wide, {heights} high"]

    def notes(self) -> list[Note]:
        """See `Looks`."""
        pairs = tuple(f"{first} ~ {second}" for first, second in self.near_duplicates)
        told = f"{plural(len(pairs), 'pair')} of pictures look the same"
        return [Note(told, pairs)] if pairs else []

    def to_json(self) -> dict[str, Any]:
        """See `Looks`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TextLooks:
    """Lengths of texts, and the beginnings of some.

    Attributes:
        characters: smallest, quartiles and largest number of characters.
        words: smallest, quartiles and largest number of words, which blanks separate.
        examples: by class, the beginnings of its first texts in the pool.
    """

    characters: tuple[int, ...]
    words: tuple[int, ...]
    examples: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        """See `Looks`."""
        return [
            "length, smallest / lower quartile / median / upper quartile / largest: "
            f"{_slashed(self.characters)} characters, {_slashed(self.words)} words"
        ]

    def notes(self) -> list[Note]:
        """See `Looks`."""
        return []

    def to_json(self) -> dict[str, Any]:
        """See `Looks`."""
        return asdict(self)


def look_at_images(images: LabelledExamples, read: Ints) -> ImageLooks:
    """Measure images.

    Args:
        images: of a data set.
        read: (M,) which of them were read.

    Raises:
        DataError: an image cannot be decoded.
    """
    sizes = np.asarray([encoded_size(images.encoded(int(i))) for i in read]).reshape(-1, 2)
    compared = read[:MOST_COMPARED]
    pairs = near_duplicates(thumbnails(images, compared))
    return ImageLooks(
        widths=_quantiles(sizes[:, 0], (0, 0.5, 1)),
        heights=_quantiles(sizes[:, 1], (0, 0.5, 1)),
        near_duplicates=tuple(
            (images.paths[compared[a]], images.paths[compared[b]])
            for a, b in pairs
            if not np.array_equal(images.digests[compared[a]], images.digests[compared[b]])
        ),
    )


def look_at_texts(texts: LabelledExamples, read: Ints) -> TextLooks:
    """Measure texts.

    Args:
        texts: of a data set.
        read: (M,) which of them were read.
    """
    decoded = [texts.encoded(int(row)).decode() for row in read]
    characters = np.asarray([len(text) for text in decoded], dtype=np.int64)
    words = np.asarray([len(text.split()) for text in decoded], dtype=np.int64)
    shown = read[texts.split[read] == Split.POOL]
    quarters = (0, 0.25, 0.5, 0.75, 1)
    return TextLooks(
        characters=_quantiles(characters, quarters),
        words=_quantiles(words, quarters),
        examples=tuple(
            tuple(
                preview(texts.encoded(int(row)))
                for row in shown[texts.labels[shown] == label][:_EXAMPLES_A_CLASS]
            )
            for label in range(texts.num_classes)
        ),
    )


def _quantiles(values: npt.NDArray[np.int64], shares: Sequence[float]) -> tuple[int, ...]:
    """The values at these shares of their order, rounded down; zeros where there is no value."""
    if not len(values):
        return (0,) * len(shares)
    return tuple(int(value) for value in np.quantile(values, shares))


def _slashed(values: Sequence[int]) -> str:
    return " / ".join(map(str, values))
