"""Findings in a folder of images: its problems, reduced to their causes, and its notes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from orchestrator.datasets.depth import above, below
from orchestrator.datasets.files import FETCH, FOLLOW, Root, is_image, suffix_of
from orchestrator.datasets.listing import Note
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split

_PATH = ("dataset", "path")
_MOST_KINDS = 5
"""Largest number of suffixes that messages count."""


@dataclass
class Found:
    """The content of the folder: paths relative to it, each image with its class and its split."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    no_images: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """Number of images, including those behind links that are not read."""
        return len(self.paths) + len(self.outside) + len(self.dead)


def complain(
    path: Path,
    found: Found,
    problems: Problems,
    *,
    own: bool,
    follow: bool,
    bad_fraction: float,
) -> None:
    """Add the problems of the findings; those that follow from another one are left out."""
    if found.outside and not follow:
        problems.add(
            _PATH,
            f"links that lead out of the folder ({len(found.outside):,}): {some(found.outside)}; "
            f"{FOLLOW}",
        )
    if len(found.dead) > bad_fraction * found.num_images:
        problems.add(
            _PATH,
            f"{len(found.dead):,} of {found.num_images:,} images are links to files that are not "
            f"there: {some(found.dead)}; {FETCH}",
        )
    elsewhere = None if own or found.num_images > len(found.paths) else _elsewhere(path, found)
    if elsewhere is not None:
        problems.add(_PATH, elsewhere)
    # A class may be absent from one split; without splits, its folder has no other purpose.
    elif found.empty and not (own and found.paths):
        problems.add(
            _PATH,
            f"no image in: {some(found.empty)}{unread(_inside(found.empty, found.no_images))}",
        )
    odd = [path for path in found.paths if not _is_text(path)]
    if odd:
        problems.add(_PATH, f"names that are no UTF-8: {some(odd)}")


def _elsewhere(path: Path, found: Found) -> str | None:
    """Return why the class folders seem to lie a level lower or higher, or None."""
    deeper = below(path, found.paths)
    tops = {image.partition(os.sep)[0] for image in found.paths}
    if deeper is not None or len(tops) != 1:
        return deeper
    higher = above(path, _images_beside(path))
    return (
        f"{path} holds images beside its only folder of them, {some([*tops])}{higher}"
        if higher
        else None
    )


def _inside(folders: list[str], paths: list[str]) -> list[str]:
    """Return the paths that lie in one of the folders."""
    starts = tuple(f"{folder}{os.sep}" for folder in folders)
    return [path for path in paths if path.startswith(starts)]


def unread(paths: list[str]) -> str:
    """Return a hint for a problem line if all files are of kinds that are not read, or ""."""
    if not paths or any(map(is_image, paths)):
        return ""
    return (
        f"; the files there ({_kinds(paths)}) are not read: convert those that hold pictures to "
        "PNG (8 or 16 bits) or JPEG, under names with these suffixes, and unpack archives"
    )


def _kinds(paths: list[str]) -> str:
    """Return the number of files per suffix in words, the commonest first."""
    counts = Counter(suffix_of(PurePath(path).name) or "without suffix" for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(_MOST_KINDS))


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def notes_of(path: Path, found: Found) -> list[Note]:
    """Return notes about a usable folder, such as the files that are left out."""
    notes = []
    if found.no_images:
        kinds = f"{len(found.no_images):,} ({_kinds(found.no_images)})"
        notes.append(
            Note(f"files that are no images by their names: {kinds}", tuple(found.no_images))
        )
    if found.dead:
        count = len(found.dead)
        notes.append(
            Note(f"links to files that are not there, left out: {count:,}", tuple(found.dead))
        )
    if found.outside:
        count = len(found.outside)
        notes.append(
            Note(f"links to folders around this one, not followed: {count:,}", (*found.outside,))
        )
    if found.empty:
        notes.append(Note("class folders without images", tuple(found.empty)))
    beside = _images_beside(path)
    if beside:
        count = len(beside)
        notes.append(Note(f"images beside the class folders, left out: {count:,}", tuple(beside)))
    return notes


def _images_beside(path: Path) -> list[str]:
    """Return the names of images beside the class folders, which are in no class."""
    names = sorted(filter(is_image, Root(path).names(PurePath())))
    return [name for name in names if not name.startswith(".") and (path / name).is_file()]
