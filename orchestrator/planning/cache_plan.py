"""The boundaries whose activations the feature cache stores, per backbone and input size.

Images as they are have a row each, which probes, validation and tests read. The labelled images of
a study have a row for each of their views, so that other boundaries may be worth their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator.planning.plan import StudyPlan
from orchestrator.space import SearchSpace, short_names
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import CacheError
from trainable.spec.settings import UNITS

if TYPE_CHECKING:  # a file is checked without importing torch
    from trainable.backbones.cutting.boundaries import Boundary
    from trainable.features.cache import FeatureCache
    from trainable.features.cost_model import Level


@dataclass(frozen=True, kw_only=True)
class KeptBoundaries:
    """The boundaries of one backbone that this machine's feature cache stores.

    Attributes:
        backbone: its short name.
        size: side of the input images in pixels, or most tokens of a text.
        study: the study whose views of labelled images are meant; None for images or texts as they
            are.
        num_views: views of an image; 1 for it as it is.
        num_boundaries: boundaries of the backbone.
        kept: numbers of the stored boundaries, from 1, ascending.
        row_bytes: bytes of one image's activations or of one of its views', for each of `kept`.
        folder: folder of the cache; None if nothing is cached.
        modality: what the backbone takes: `image` or `text`.
    """

    backbone: str
    size: int
    study: str | None = None
    num_views: int = 1
    num_boundaries: int
    kept: tuple[int, ...]
    row_bytes: tuple[int, ...]
    folder: str | None
    modality: str = "image"


def lines_of(kept: Iterable[KeptBoundaries]) -> list[str]:
    """Lines that describe what is stored: one for each backbone and size, or several that differ.

    Args:
        kept: as `kept_boundaries` returns them.
    """
    lines = []
    for _, entries in groupby(kept, key=lambda one: (one.backbone, one.size)):
        alike: dict[tuple[int, ...], list[KeptBoundaries]] = {}
        for one in entries:
            alike.setdefault(one.kept, []).append(one)
        lines += [
            _line(same[0], about=_rows(same) if len(alike) > 1 else "") for same in alike.values()
        ]
    return lines


def _rows(entries: Sequence[KeptBoundaries]) -> str:
    """The rows that some entries are about: `, images as they are and views of b5, b10`."""
    studies = [one.study for one in entries if one.study is not None]
    parts = ["images as they are"] if len(studies) < len(entries) else []
    parts += [f"views of {', '.join(studies)}"] if studies else []
    return f", {' and '.join(parts)}"


def _line(one: KeptBoundaries, *, about: str) -> str:
    heading = (
        f"{one.backbone} at {one.size} {UNITS[one.modality]}{about}: "
        f"of {one.num_boundaries} boundaries"
    )
    if one.folder is None:
        return f"{heading} none is kept between trials"
    if not one.kept:
        inputs = "kept pixels" if one.modality == "image" else "tokens"
        return f"{heading} none is worth its bytes: prefixes are computed again from {inputs}"
    low, high = min(one.row_bytes) / 1024, max(one.row_bytes) / 1024
    unit = "a text" if one.modality == "text" else "an image" if one.num_views == 1 else "a view"
    sizes = f"{low:,.1f} to {high:,.1f} KiB {unit}"
    return f"{heading} {_ranges(one.kept)} kept in {one.folder}, {sizes}"


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
    studies: Sequence[StudyPlan],
) -> tuple[list[KeptBoundaries], str | None]:
    """The boundaries that this machine's feature cache stores; each other node decides for itself.

    Args:
        space: the search space.
        images: images of the sweep; the cache holds rows for those that are read.
        cuts: boundaries by backbone and size.
        studies: the studies of the sweep, which differ in how many images have how many views.

    Returns:
        For each backbone and size one entry about the images as they are, and if there are views
        one for each study; and the reason why the cache cannot be opened, or None.
    """
    from trainable.features.cache import cache_levels, open_cache

    cache: FeatureCache | None = None
    problem = None
    num_images = int(images.is_read().sum())
    try:
        cache = open_cache(space.cache, num_images=num_images)
    except CacheError as error:
        problem = str(error)
    asked: dict[str | None, tuple[int, int]] = {None: (num_images, 1)}
    if space.augment is not None:
        for study in studies:
            labelled = study.labels_used
            asked[study.name] = labelled, space.augment.resolved(labelled).num_views
    found = []
    names = short_names(backbone for backbone, _ in cuts)
    for (backbone, size), places in cuts.items():
        for name, (count, views) in asked.items():
            kept: list[tuple[int, Level]] = []
            if cache is not None:
                levels = cache_levels(places, replace(cache, num_images=count), views=views)
                kept = [(number, one) for number, one in enumerate(levels, start=1) if one.kept]
            found.append(
                KeptBoundaries(
                    backbone=names[backbone],
                    size=size,
                    study=name,
                    num_views=views,
                    modality=space.modality,
                    num_boundaries=len(places),
                    kept=tuple(number for number, _ in kept),
                    row_bytes=tuple(level.bytes for _, level in kept),
                    folder=None if cache is None else str(cache.store.folder),
                )
            )
    return found, problem
