"""Images and their masks, found by their names in folders or by the columns of a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pyarrow as pa

from orchestrator.datasets import columns
from orchestrator.datasets.files import Root, is_image
from orchestrator.datasets.mask_sections import MasksSection
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.table_file import TABLE_SUFFIXES, open_table
from orchestrator.datasets.walking import files_below
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.errors import DataError

_PATH = ("dataset", "path")

_SUFFIXES = ("_mask", "-mask", "_gt", "_label", "_labels", "_seg")
"""What masks may have behind the name of their image."""

_USUAL = {
    "images": ("images", "image", "imgs", "img", "JPEGImages"),
    "masks": ("masks", "mask", "labels", "annotations", "SegmentationClass"),
}
"""Usual names of the folders, by key."""


@dataclass
class Pairs:
    """Images with their masks.

    Attributes:
        images: paths of the images, relative to the data.
        masks: paths of their masks.
        splits: their splits; None where the data have none.
    """

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    splits: list[Split] | None = None


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


def pairs_of_folders(section: MasksSection, root: Root, problems: Problems) -> Pairs:
    """Images and masks by their names, such as `images/a.jpg` and `masks/a.png`."""
    twins: list[str] = []
    images, masks = (_files(root, name, twins) for name in (section.images, section.masks))
    for key, name, found in (("images", section.images, images), ("masks", section.masks, masks)):
        if not found:
            inside = sorted(entry.name for entry in os.scandir(root.path))
            problems.add(
                _PATH,
                f"{root.path} has no images in a folder {name}/; it holds {some(inside)}. Say "
                f"dataset.{key} if it has another name",
            )
    pairs = Pairs()
    if not images or not masks:
        return pairs
    partners = {_without_suffix(key): path for key, path in masks.items()} | masks
    splits = []
    for key, image in images.items():
        if key in partners:
            pairs.images.append(image)
            pairs.masks.append(partners[key])
            splits.append(_split_of(key))
    if None not in splits:
        pairs.splits = [split for split in splits if split is not None]
    alone = sorted(set(images.values()) - set(pairs.images))
    lonely = sorted(set(masks.values()) - set(pairs.masks))
    if alone:
        problems.add(_PATH, f"{_many(alone, 'image')} without a mask of its name: {some(alone)}")
    if lonely:
        problems.add(_PATH, f"{_many(lonely, 'mask')} without an image of its name: {some(lonely)}")
    if twins:
        problems.add(_PATH, f"{_many(twins, 'file')} beside another of its name: {some(twins)}")
    return pairs


def pairs_of_table(section: MasksSection, path: Path, root: Root, problems: Problems) -> Pairs:
    """Images and masks by two columns of a table, whose paths are relative to it."""
    if not path.name.lower().endswith(TABLE_SUFFIXES):
        problems.add(
            _PATH,
            f"{path}: is a file; allowed: a folder that holds {section.images}/ and "
            f"{section.masks}/, or a table: {', '.join(TABLE_SUFFIXES)}",
        )
        return Pairs()
    wanted = {key: getattr(section, key) for key in ("path_column", "mask_column", "split_column")}
    names = [name for name in wanted.values() if name is not None]
    try:
        table = open_table(path, wanted=names)
        if not columns.check_columns(list(wanted.items()), table.names, problems, where=str(path)):
            return Pairs()
        read = table.read(names)
    except (OSError, DataError, pa.ArrowException) as error:
        problems.add(_PATH, f"{path} cannot be read: {' '.join(str(error).split())}")
        return Pairs()
    texts = {
        key: columns.texts(read.column(name), ("dataset", key), problems, names=[], where="")
        for key, name in wanted.items()
        if name is not None
    }
    splits = texts.get("split_column")
    pairs = Pairs(
        images=texts["path_column"] or [],
        masks=texts["mask_column"] or [],
        splits=None
        if splits is None
        else columns.splits(splits, ("dataset", "split_column"), problems),
    )
    missing: set[str] = set()
    for key, paths in (("path_column", pairs.images), ("mask_column", pairs.masks)):
        refused = [one for one in dict.fromkeys(paths) if root.refusal(one) is not None]
        missing.update(refused)
        if refused:
            problems.add(
                ("dataset", key),
                f"{len(refused):,} of {len(paths):,} paths lead to no file below {root.path}: "
                f"{some(refused)}",
            )
    rows = zip(pairs.images, pairs.masks, strict=False)
    there = [pair for pair in rows if missing.isdisjoint(pair)]
    pairs.images, pairs.masks = [image for image, _ in there], [mask for _, mask in there]
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
