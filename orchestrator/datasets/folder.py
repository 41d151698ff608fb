"""A folder of images: one folder per class, or train, val and test folders of class folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from orchestrator.datasets.depth import above
from orchestrator.datasets.files import Root, file_reader, is_image
from orchestrator.datasets.folder_findings import Found, complain, notes_of, unread
from orchestrator.datasets.layout import ambiguity, note_of_classes
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.sections import FolderSection
from orchestrator.datasets.splits import split_of
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.spec.refusals import shown

_PATH = ("dataset", "path")
_GROUP = ("dataset", "group")
_NEVER_CLASSES = frozenset({"__MACOSX", "@eaDir"})
_NEVER_IMAGES = frozenset({"thumbs.db", "desktop.ini"})


def list_images(section: FolderSection, problems: Problems) -> Listing | None:
    """List the images of the folder; add problems if it is not usable.

    Hidden files and files that operating systems create are skipped silently; files without an
    image suffix are skipped and noted.
    """
    path = Path(section.path)
    tops = _top_folders(path, problems)
    if tops is None:
        return None
    root = Root(path, follow=section.links is not None)
    found = Found()
    notes: list[Note] = []
    words = {top: split_of(top) for top in tops}
    own = section.layout is None and None not in words.values() and Split.POOL in words.values()
    if own:
        for top, split in words.items():
            assert split is not None
            classes = _folders(path / top)
            if not classes:
                problems.add(
                    _PATH,
                    f"{shown(top)} holds no class folders; allowed: one folder a class, with its "
                    "images inside. Where its images have no labels, move it out of the folder",
                )
            for name in classes:
                _collect(path, f"{top}{os.sep}{name}", name, split, root, found)
    else:
        for name in tops:
            _collect(path, name, name, Split.POOL, root, found)
        if section.layout is None:
            notes += _notes_of_layout(tops, found.paths, problems)
    complain(
        path,
        found,
        problems,
        own=own,
        follow=root.follow,
        bad_fraction=section.max_bad_fraction,
    )
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
        notes=notes + notes_of(path, found),
    )


def _notes_of_layout(tops: list[str], paths: list[str], problems: Problems) -> list[Note]:
    """Return notes about folders read as classes; add a problem if they may be splits."""
    doubt = ambiguity(tops, paths)
    if doubt is not None:
        problems.add(_PATH, doubt)
        return []
    note = note_of_classes(tops)
    return [] if note is None else [note]


def _top_folders(path: Path, problems: Problems) -> list[str] | None:
    """Return the names of the folders in the folder; None if there is a problem."""
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
        f"{unread(files)}{above(path, files)}",
    )
    return None


def _folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder that may be classes, ascending."""
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


def _collect(path: Path, folder: str, label: str, split: Split, root: Root, found: Found) -> None:
    """Add the images of one class folder, including those of nested folders."""
    before = found.num_images
    for relative in _walk(f"{path}{os.sep}", folder, root, found, seen=set()):
        found.paths.append(relative)
        found.labels.append(label)
        found.splits.append(split)
    if found.num_images == before:
        found.empty.append(folder)


def _walk(prefix: str, folder: str, root: Root, found: Found, *, seen: set[Path]) -> Iterator[str]:
    """Yield relative paths of the images in a folder, ascending, nested folders last."""
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


def _groups(pattern: str | None, paths: list[str], problems: Problems) -> list[str] | None:
    """Return the group of each path: the expression's first group, or its whole match."""
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
