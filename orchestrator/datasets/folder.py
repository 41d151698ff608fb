"""A folder of files: one folder a class, or train, val and test folders of class folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator.datasets.depth import above, is_table
from orchestrator.datasets.file_kinds import IMAGES, TEXTS, FileKind, kind_of_files, mixture
from orchestrator.datasets.files import Root, file_reader
from orchestrator.datasets.folder_findings import Found, complain, notes_of, unread
from orchestrator.datasets.layout import ambiguity, note_of_classes
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.sections import FolderSection
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.text_encoding import is_known
from orchestrator.datasets.texts import decoding_reader
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split
from trainable.spec.refusals import shown

_PATH = ("dataset", "path")
_GROUP = ("dataset", "group")
_NEVER_CLASSES = frozenset({"__MACOSX", "@eaDir"})
_NEVER_EXAMPLES = frozenset({"thumbs.db", "desktop.ini"})


def list_examples(section: FolderSection, problems: Problems) -> Listing | None:
    """The images or texts of the folder; what is wrong with it goes to the problems.

    Hidden files, and what operating systems leave behind, are passed over in silence; files that
    are no examples by their suffix are passed over and noted.
    """
    path = Path(section.path)
    is_known(section.encoding, problems)
    tops = _top_folders(path, problems)
    if tops is None:
        return None
    root = Root(path, follow=section.links is not None)
    words = {top: split_of(top) for top in tops}
    own = section.layout is None and None not in words.values() and Split.POOL in words.values()
    classes = _class_folders(path, words, own=own, problems=problems)
    found = _search(path, classes, root, problems)
    notes = _notes_of_layout(tops, found, problems) if not own and section.layout is None else []
    complain(
        path,
        found,
        problems,
        own=own,
        follow=root.follow,
        bad_fraction=section.max_bad_fraction,
    )
    groups = _groups(section.group, found, problems)
    if len(problems):
        return None
    paths = tuple(found.paths)
    read = file_reader(path, paths)
    return Listing.of(
        paths=paths,
        labels=found.labels,
        splits=found.splits if own else None,
        groups=groups,
        read=read if found.kind is IMAGES else decoding_reader(read, section.encoding),
        notes=notes + notes_of(path, found),
        modality=found.kind.noun,
    )


class _ClassFolder(NamedTuple):
    """A folder with the examples of one class, by its path relative to all of them."""

    path: str
    label: str
    split: Split


def _class_folders(
    path: Path, words: Mapping[str, Split | None], *, own: bool, problems: Problems
) -> list[_ClassFolder]:
    """The folders of classes, whether they lie in folders of splits or not."""
    if not own:
        return [_ClassFolder(name, name, Split.POOL) for name in words]
    folders = []
    for top, split in words.items():
        assert split is not None
        classes = _folders(path / top)
        if not classes:
            problems.add(
                _PATH,
                f"{shown(top)} holds no class folders; allowed: one folder a class, with its "
                "images or texts inside. Where these have no labels, move it out of the folder",
            )
        folders += [_ClassFolder(f"{top}{os.sep}{name}", name, split) for name in classes]
    return folders


def _search(path: Path, classes: Sequence[_ClassFolder], root: Root, problems: Problems) -> Found:
    """The examples in the class folders: images, or else texts where most files are texts."""
    found = _collect(path, classes, root, IMAGES)
    texts = [name for name in found.others if TEXTS.includes(name)]
    if not texts:
        return found
    names = [*found.paths, *texts]
    mixed = mixture(names)
    if mixed is not None:
        problems.add(_PATH, f"{path} {mixed}")
    return found if kind_of_files(names) is IMAGES else _collect(path, classes, root, TEXTS)


def _notes_of_layout(tops: list[str], found: Found, problems: Problems) -> list[Note]:
    """What to know of folders that are taken for classes; a problem where they may be splits."""
    noun = found.kind.noun
    doubt = ambiguity(tops, found.paths, noun=noun)
    if doubt is not None:
        problems.add(_PATH, doubt)
        return []
    note = note_of_classes(tops, noun=noun)
    return [] if note is None else [note]


def _top_folders(path: Path, problems: Problems) -> list[str] | None:
    """Return the names of the folders in the folder; None if there is a problem."""
    if path.is_file():
        hint = " (for a table: source: table)" if is_table(path.name) else ""
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
        f"{path} {inside}; allowed: one folder a class, with its images or texts inside"
        f"{unread(files)}{above(path, files, kind_of_files(files))}",
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


def _collect(path: Path, classes: Sequence[_ClassFolder], root: Root, kind: FileKind) -> Found:
    """The examples of this kind in the class folders, those of folders inside them included."""
    found = Found(kind)
    for folder, label, split in classes:
        before = found.num_examples
        for relative in _walk(f"{path}{os.sep}", folder, root, found, seen=set()):
            found.paths.append(relative)
            found.labels.append(label)
            found.splits.append(split)
        if found.num_examples == before:
            found.empty.append(folder)
    return found


def _walk(prefix: str, folder: str, root: Root, found: Found, *, seen: set[Path]) -> Iterator[str]:
    """Relative paths of the examples in a folder, in ascending order, folders last."""
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
        if name.startswith(".") or name.lower() in _NEVER_EXAMPLES or name in _NEVER_CLASSES:
            continue
        relative = f"{folder}{os.sep}{name}"
        if entry.is_symlink() and not Path(entry.path).exists():
            (found.dead if found.kind.includes(name) else found.others).append(relative)
        elif entry.is_symlink() and not root.holds(Path(entry.path)):
            found.outside.append(relative)
        elif _is_dir(entry):
            folders.append(relative)
        elif entry.is_file() and found.kind.includes(name):
            yield relative
        else:
            found.others.append(relative)
    for inner in folders:
        yield from _walk(prefix, inner, root, found, seen=seen)


def _groups(pattern: str | None, found: Found, problems: Problems) -> list[str] | None:
    """The group of each path: the expression's first group, or else all it matches."""
    if pattern is None:
        return None
    paths = found.paths
    expression = re.compile(pattern)
    matches = [expression.search(path) for path in paths]
    groups = [
        None if match is None else match.group(1 if expression.groups else 0) for match in matches
    ]
    without = [path for path, group in zip(paths, groups, strict=True) if group is None]
    if without:
        problems.add(
            _GROUP,
            f"got {shown(pattern)}, which gives {len(without):,} of {len(paths):,} "
            f"{found.kind.noun}s no group: {some(without)}",
        )
    return [group for group in groups if group is not None]
