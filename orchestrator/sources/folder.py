"""A folder of images: one folder a class, or train, val and test folders of class folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from orchestrator.sources.depth import above, below
from orchestrator.sources.files import FETCH, FOLLOW, Root, file_reader, is_image, suffix_of
from orchestrator.sources.layout import ambiguity
from orchestrator.sources.listing import Listing, Note
from orchestrator.sources.splits import split_of
from orchestrator.space import FolderSection
from orchestrator.space.problems import Problems, shown, some
from trainable.images import Split

_PATH = ("dataset", "path")
_GROUP = ("dataset", "group")
_NEVER_CLASSES = frozenset({"__MACOSX", "@eaDir"})
_NEVER_IMAGES = frozenset({"thumbs.db", "desktop.ini"})
_MOST_KINDS = 5
"""Suffixes that messages count."""


@dataclass
class _Found:
    """What lies in the folder: paths relative to it, each with its class and its split."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    no_images: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """Images that could be read, or could be if links led to them."""
        return len(self.paths) + len(self.outside) + len(self.dead)


def list_images(section: FolderSection, problems: Problems) -> Listing | None:
    """The images of the folder; what is wrong with it goes to the problems.

    Hidden files, and what operating systems leave behind, are passed over in silence; files that
    are no images by their suffix are passed over and noted.
    """
    path = Path(section.path)
    tops = _top_folders(path, problems)
    if tops is None:
        return None
    root = Root(path, follow=section.links is not None)
    found = _Found()
    words = {top: split_of(top) for top in tops}
    own = section.layout is None and None not in words.values() and Split.POOL in words.values()
    if own:
        for top, split in words.items():
            assert split is not None
            classes = _folders(path / top)
            if not classes:
                problems.add(_PATH, f"{shown(top)} holds no class folders")
            for name in classes:
                _collect(path, f"{top}{os.sep}{name}", name, split, root, found)
    else:
        for name in tops:
            _collect(path, name, name, Split.POOL, root, found)
        doubt = ambiguity(tops, found.paths) if section.layout is None else None
        if doubt is not None:
            problems.add(_PATH, doubt)
    _complain(path, found, problems, own=own, bad_fraction=section.max_bad_fraction)
    groups = _groups(section.group, found.paths, problems)
    if len(problems):
        return None
    paths = tuple(found.paths)
    return Listing.of(
        paths=paths,
        labels=found.labels,
        splits=found.splits if own else None,
        groups=groups,
        read=file_reader(path, paths),
        notes=[*_notes(found), *_note_beside(path)],
    )


def _top_folders(path: Path, problems: Problems) -> list[str] | None:
    """Names of the folders in the folder, or None where there is a problem."""
    if path.is_file():
        hint = " (for a table of images: source: table)" if path.suffix in (".csv", ".tsv") else ""
        problems.add(_PATH, f"{path} is a file{hint}; allowed: a folder of class folders")
        return None
    try:
        tops = _folders(path)
        if tops:
            return tops
        files = [entry.name for entry in os.scandir(path) if not entry.name.startswith(".")]
    except FileNotFoundError:
        problems.add(_PATH, f"{path}: no such folder")
        return None
    except OSError as error:
        problems.add(_PATH, f"{path} cannot be read: {error.strerror or error}")
        return None
    inside = f"holds {some(sorted(files))}, but no folders" if files else "is empty"
    problems.add(
        _PATH,
        f"{path} {inside}; allowed: one folder a class, with its images inside"
        f"{_unread(files)}{above(path, files)}",
    )
    return None


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder that may be classes, in ascending order."""
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name not in _NEVER_CLASSES
            and _is_dir(entry)
        )


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _collect(path: Path, folder: str, label: str, split: Split, root: Root, found: _Found) -> None:
    """Adds the images of one class folder, those of folders inside it included."""
    before = found.num_images
    for relative in _walk(f"{path}{os.sep}", folder, root, found, seen=set()):
        found.paths.append(relative)
        found.labels.append(label)
        found.splits.append(split)
    if found.num_images == before:
        found.empty.append(folder)


def _walk(prefix: str, folder: str, root: Root, found: _Found, *, seen: set[Path]) -> Iterator[str]:
    """Relative paths of the images in a folder, in ascending order, folders last."""
    whole = Path(prefix + folder)
    if not root.holds(whole):
        found.outside.append(folder)
        return
    real = whole.resolve()
    if real in seen:  # a link back up would never end
        return
    seen.add(real)
    with os.scandir(whole) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith(".") or name.lower() in _NEVER_IMAGES or name in _NEVER_CLASSES:
            continue
        relative = f"{folder}{os.sep}{name}"
        if entry.is_symlink() and not Path(entry.path).exists():
            (found.dead if is_image(name) else found.no_images).append(relative)
        elif entry.is_symlink() and not root.holds(Path(entry.path)):
            found.outside.append(relative)
        elif _is_dir(entry):
            folders.append(relative)
        elif entry.is_file() and is_image(name):
            yield relative
        else:
            found.no_images.append(relative)
    for inner in folders:
        yield from _walk(prefix, inner, root, found, seen=seen)


def _complain(
    path: Path, found: _Found, problems: Problems, *, own: bool, bad_fraction: float
) -> None:
    """Problems of what was found; what merely follows from another one is left out."""
    if found.outside:
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
    deeper = None if own or found.outside or found.dead else below(path, found.paths)
    if deeper is not None:
        problems.add(_PATH, deeper)
    # A class may be absent from one split; without splits, its folder has no other purpose.
    elif found.empty and not (own and found.paths):
        problems.add(
            _PATH,
            f"no image in: {some(found.empty)}{_unread(_inside(found.empty, found.no_images))}",
        )
    odd = [path for path in found.paths if not _is_text(path)]
    if odd:
        problems.add(_PATH, f"names that are no UTF-8: {some(odd)}")


def _inside(folders: list[str], paths: list[str]) -> list[str]:
    """The paths that lie in one of the folders."""
    starts = tuple(f"{folder}{os.sep}" for folder in folders)
    return [path for path in paths if path.startswith(starts)]


def _unread(paths: list[str]) -> str:
    """What a problem line adds where all files are of kinds that are not read."""
    if not paths or any(map(is_image, paths)):
        return ""
    return (
        f"; the files there ({_kinds(paths)}) are not read: convert those that hold pictures to "
        "PNG (8 or 16 bits) or JPEG, under names with these suffixes, and unpack archives"
    )


def _kinds(paths: list[str]) -> str:
    """How many files there are of each suffix, the commonest first."""
    counts = Counter(suffix_of(PurePath(path).name) or "without suffix" for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(_MOST_KINDS))


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _groups(pattern: str | None, paths: list[str], problems: Problems) -> list[str] | None:
    """The group of each path: the expression's first group, or else all it matches."""
    if pattern is None:
        return None
    expression = re.compile(pattern)
    matches = [expression.search(path) for path in paths]
    groups = [
        None if match is None else match.group(1 if expression.groups else 0) for match in matches
    ]
    without = [path for path, group in zip(paths, groups, strict=True) if group is None]
    if without:
        problems.add(
            _GROUP,
            f"got {shown(pattern)}, which gives {len(without):,} of {len(paths):,} images no "
            f"group: {some(without)}",
        )
    return [group for group in groups if group is not None]


def _notes(found: _Found) -> list[Note]:
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
    if found.empty:
        notes.append(Note("class folders without images", tuple(found.empty)))
    return notes


def _note_beside(path: Path) -> list[Note]:
    """A note of images that lie beside the class folders, and so are in no class."""
    names = sorted(filter(is_image, Root(path).names(PurePath())))
    images = [name for name in names if not name.startswith(".") and (path / name).is_file()]
    if not images:
        return []
    return [Note(f"images beside the class folders, left out: {len(images):,}", tuple(images))]
