"""The boundaries whose activations the feature cache stores, per backbone and input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.space import SearchSpace, short_names
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import CacheError
from trainable.spec.settings import UNITS

if TYPE_CHECKING:  # a file is checked without importing torch
    from trainable.backbones.cutting.boundaries import Boundary
    from trainable.features.cache import FeatureCache


@dataclass(frozen=True, kw_only=True)
class KeptBoundaries:
    """The boundaries of one backbone that this machine's feature cache stores.

    Attributes:
        backbone: its short name.
        size: side of the input images in pixels, or most tokens of a text.
        num_boundaries: boundaries of the backbone.
        kept: numbers of the stored boundaries, from 1, ascending.
        row_bytes: bytes of one image's activations, for each of `kept`.
        folder: folder of the cache; None if nothing is cached.
        modality: what the backbone takes: `image` or `text`.
    """

    backbone: str
    size: int
    num_boundaries: int
    kept: tuple[int, ...]
    row_bytes: tuple[int, ...]
    folder: str | None
    modality: str = "image"

    @property
    def text(self) -> str:
        """One line that describes what is stored."""
        size = f"{self.size} {UNITS[self.modality]}"
        about = f"{self.backbone} at {size}: of {self.num_boundaries} boundaries"
        if self.folder is None:
            return f"{about} none is kept between trials"
        if not self.kept:
            inputs = "kept pixels" if self.modality == "image" else "tokens"
            return f"{about} none is worth its bytes: prefixes are computed again from {inputs}"
        low, high = min(self.row_bytes) / 1024, max(self.row_bytes) / 1024
        return (
            f"{about} {_ranges(self.kept)} kept in {self.folder}, "
            f"{low:,.1f} to {high:,.1f} KiB {'an image' if self.modality == 'image' else 'a text'}"
        )


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: `1, 3 to 5`."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)


def kept_boundaries(
    space: SearchSpace,
    images: LabelledExamples,
    cuts: Mapping[tuple[str, int], Sequence[Boundary]],
) -> tuple[list[KeptBoundaries], str | None]:
    """The boundaries that this machine's feature cache stores; each other node decides for itself.

    Args:
        space: the search space.
        images: images of the sweep; the cache holds rows for those that are read.
        cuts: boundaries by backbone and size.

    Returns:
        One entry per backbone and size; and the reason why the cache cannot be opened, or
        None.
    """
    from trainable.features.cache import cache_levels, open_cache

    cache: FeatureCache | None = None
    problem = None
    try:
        cache = open_cache(space.cache, num_images=int(images.is_read().sum()))
    except CacheError as error:
        problem = str(error)
    views = space.augment.num_views if space.augment else 1
    found = []
    names = short_names(backbone for backbone, _ in cuts)
    for (backbone, size), places in cuts.items():
        levels = [] if cache is None else cache_levels(places, cache, views=views)
        kept = [(number, level) for number, level in enumerate(levels, start=1) if level.kept]
        found.append(
            KeptBoundaries(
                backbone=names[backbone],
                size=size,
                modality=space.modality,
                num_boundaries=len(places),
                kept=tuple(number for number, _ in kept),
                row_bytes=tuple(level.bytes for _, level in kept),
                folder=None if cache is None else str(cache.store.folder),
            )
        )
    return found, problem
