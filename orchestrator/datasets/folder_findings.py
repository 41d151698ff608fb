"""What was found in a folder of examples: its problems, causes first and alone, and its notes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from orchestrator.datasets.depth import above, below
from orchestrator.datasets.file_kinds import IMAGES, TEXTS, FileKind
from orchestrator.datasets.files import FETCH, FOLLOW, Root, suffix_of
from orchestrator.datasets.listing import Note
from orchestrator.space.problems import Problems, some
from trainable.data.labelled_examples import Split

_PATH = ("dataset", "path")
_MOST_KINDS = 5
"""Largest number of suffixes that messages count."""


@dataclass
class Found:
    """The content of the folder: paths relative to it, each image with its class and its split."""

    kind: FileKind
    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def num_examples(self) -> int:
        """Examples that could be read, or could be if links led to them."""
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
    """Problems of what was found; what merely follows from another one is left out."""
    noun = found.kind.noun
    if found.outside and not follow:
        problems.add(
            _PATH,
            f"links that lead out of the folder ({len(found.outside):,}): {some(found.outside)}; "
            f"{FOLLOW}",
        )
    if len(found.dead) > bad_fraction * found.num_examples:
        problems.add(
            _PATH,
            f"{len(found.dead):,} of {found.num_examples:,} {noun}s are links to files that are "
            f"not there: {some(found.dead)}; {FETCH}",
        )
    elsewhere = None if own or found.num_examples > len(found.paths) else _elsewhere(path, found)
    if elsewhere is not None:
        problems.add(_PATH, elsewhere)
    # A class may be absent from one split; without splits, its folder has no other purpose.
    elif found.empty and not (own and found.paths):
        problems.add(
            _PATH,
            f"no {noun} in: {some(found.empty)}{unread(_inside(found.empty, found.others))}",
        )
    odd = [path for path in found.paths if not _is_unicode(path)]
    if odd:
        problems.add(_PATH, f"names that are no UTF-8: {some(odd)}")


def _elsewhere(path: Path, found: Found) -> str | None:
    """Why the class folders lie a level lower or higher than the folder that was named, or None."""
    deeper = below(path, found.paths, found.kind)
    tops = {relative.partition(os.sep)[0] for relative in found.paths}
    if deeper is not None or len(tops) != 1:
        return deeper
    higher = above(path, _beside(path, found.kind), found.kind)
    return (
        f"{path} holds {found.kind.noun}s beside its only folder of them, {some([*tops])}{higher}"
        if higher
        else None
    )


def _inside(folders: list[str], paths: list[str]) -> list[str]:
    """Return the paths that lie in one of the folders."""
    starts = tuple(f"{folder}{os.sep}" for folder in folders)
    return [path for path in paths if path.startswith(starts)]


def unread(paths: list[str]) -> str:
    """What a problem line adds where all files are of kinds that are not read."""
    if not paths or any(IMAGES.includes(path) or TEXTS.includes(path) for path in paths):
        return ""
    return (
        f"; the files there ({_kinds(paths)}) are not read: convert those that hold pictures to "
        "PNG (8 or 16 bits) or JPEG, and those that hold texts to .txt, under names with these "
        "suffixes, and unpack archives"
    )


def _kinds(paths: list[str]) -> str:
    """Return the number of files per suffix in words, the commonest first."""
    counts = Counter(suffix_of(PurePath(path).name) or "without suffix" for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(_MOST_KINDS))


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def notes_of(path: Path, found: Found) -> list[Note]:
    """Return notes about a usable folder, such as the files that are left out."""
    notes = []
    noun = found.kind.noun
    if found.others:
        kinds = f"{len(found.others):,} ({_kinds(found.others)})"
        notes.append(Note(f"files that are no {noun}s by their names: {kinds}", (*found.others,)))
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
        notes.append(Note(f"class folders without {noun}s", tuple(found.empty)))
    beside = _beside(path, found.kind)
    if beside:
        count = len(beside)
        notes.append(Note(f"{noun}s beside the class folders, left out: {count:,}", tuple(beside)))
    return notes


def _beside(path: Path, kind: FileKind) -> list[str]:
    """Names of examples that lie beside the class folders, and so are in no class."""
    names = sorted(filter(kind.includes, Root(path).names(PurePath())))
    return [name for name in names if not name.startswith(".") and (path / name).is_file()]
