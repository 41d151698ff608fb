"""A folder of images and one of masks, which belong together by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from orchestrator.datasets.files import Root, file_reader, is_image
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.mask_classes import ClassTable
from orchestrator.datasets.mask_files import MaskReader
from orchestrator.datasets.progress_bar import reading_bar
from orchestrator.datasets.sections import MasksSection
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.walking import files_below
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.data.masks import Masks

_PATH = ("dataset", "path")

_SUFFIXES = ("_mask", "-mask", "_gt", "_label", "_labels", "_seg")
"""What masks may have behind the name of their image."""


_USUAL = {
    "images": ("images", "image", "imgs", "img", "JPEGImages"),
    "masks": ("masks", "mask", "labels", "annotations", "SegmentationClass"),
}
"""Usual names of the folders, by key."""


@dataclass
class _Pairs:
    """Images with their masks.

    Attributes:
        images: paths of the images, relative to the data.
        masks: paths of their masks.
        splits: their splits.
        is_split: whether the folders name splits.
    """

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    is_split: bool = False


def list_images(section: MasksSection, problems: Problems) -> Listing | None:
    """The images with their masks; what is wrong with either goes to the problems.

    Every mask is read: which classes there are is known from all of them alone.
    """
    path = Path(section.path)
    root = Root(path, follow=section.links is not None)
    if not path.is_dir():
        what = "is a file" if path.is_file() else "no such folder"
        problems.add(
            _PATH,
            f"{path}: {what}; allowed: a folder that holds {section.images}/ and {section.masks}/",
        )
        return None
    pairs = _pairs(section, root, problems)
    if pairs is None:
        return None
    reader = MaskReader(root, exif=section.exif)
    table = ClassTable(names=section.classes, values=section.values, ignore=section.ignore)
    masks = []
    with reading_bar("reading masks", len(pairs.masks)) as step:
        for image, mask in zip(pairs.images, pairs.masks, strict=True):
            step()
            found = reader.read(image, mask)
            if found is not None:
                masks.append(table.classed(found, mask))
    reader.complain(problems)
    table.complain(problems)
    if len(problems):
        return None
    return Listing(
        paths=tuple(pairs.images),
        labels=np.zeros(len(pairs.images), dtype=np.int64),
        class_names=table.class_names,
        split=np.asarray(pairs.splits, dtype=np.int64) if pairs.is_split else None,
        groups=None,
        group_names=(),
        read=file_reader(path, pairs.images),
        notes=(*reader.notes, _note_of_classes(table)),
        masks=Masks.of(masks),
    )


def guess_folders(path: Path) -> dict[str, str] | None:
    """Return the keys `images` and `masks` for a folder that holds both under usual names.

    What is the default is left out; None if the folder holds no such folders.
    """
    if not path.is_dir():
        return None
    root = Root(path)
    found = {}
    for key, names in _USUAL.items():
        name = next((name for name in names if _files(root, name)), None)
        if name is None:
            return None
        if name != key:
            found[key] = name
    return found


def _note_of_classes(table: ClassTable) -> Note:
    lines = [f"{name}: {100 * share:.1f} %" for name, share in table.shares().items()]
    return Note("classes, by their share of the pixels", tuple(lines))


def _pairs(section: MasksSection, root: Root, problems: Problems) -> _Pairs | None:
    """Images and masks by their names, such as `images/a.jpg` and `masks/a.png`."""
    twins: list[str] = []
    images, masks = (_files(root, name, twins) for name in (section.images, section.masks))
    for key, name, found in (
        ("images", section.images, images),
        ("masks", section.masks, masks),
    ):
        if not found:
            inside = sorted(entry.name for entry in os.scandir(root.path))
            problems.add(
                _PATH,
                f"{root.path} has no images in a folder {name}/; it holds {some(inside)}. Say "
                f"dataset.{key} if it has another name",
            )
    if len(problems):
        return None
    partners = {_without_suffix(key): path for key, path in masks.items()} | masks
    pairs = _Pairs(is_split=all(_split_of(key) is not None for key in images))
    for key, image in images.items():
        if key in partners:
            pairs.images.append(image)
            pairs.masks.append(partners[key])
            pairs.splits.append(_split_of(key) or Split.POOL)
    alone = sorted(set(images.values()) - set(pairs.images))
    lonely = sorted(set(masks.values()) - set(pairs.masks))
    if alone:
        problems.add(_PATH, f"{_many(alone, 'image')} without a mask of its name: {some(alone)}")
    if lonely:
        problems.add(_PATH, f"{_many(lonely, 'mask')} without an image of its name: {some(lonely)}")
    if twins:
        problems.add(_PATH, f"{_many(twins, 'file')} beside another of its name: {some(twins)}")
    return pairs


def _files(root: Root, folder: str, twins: list[str] | None = None) -> dict[str, str]:
    """Paths of image files in folders of a name, by their paths without this and the suffix.

    Args:
        root: the folder of all.
        folder: the name.
        twins: takes the paths of further files of one key.
    """
    found: dict[str, str] = {}
    for folders, name in files_below(root):
        if folder in folders and is_image(name):
            place = folders.index(folder)
            key = PurePath(*folders[:place], *folders[place + 1 :], name).with_suffix("")
            path = str(PurePath(*folders, name))
            if found.setdefault(str(key), path) != path and twins is not None:
                twins.append(path)
    return found


def _without_suffix(key: str) -> str:
    for suffix in _SUFFIXES:
        if key.endswith(suffix):
            return key.removesuffix(suffix)
    return key


def _split_of(key: str) -> Split | None:
    """The split that the first folder of a path names, or None."""
    first, *rest = PurePath(key).parts
    return split_of(first) if rest else None


def _many(paths: Sequence[str], noun: str) -> str:
    return f"{len(paths):,} {noun}{'' if len(paths) == 1 else 's'}"
