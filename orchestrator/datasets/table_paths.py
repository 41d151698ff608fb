"""Paths of a table that lead to no file: known causes, and the remedy for each.

Unambiguous spellings are corrected and noted: blanks around a path, backslashes, and a missing or
different suffix. Corrections that need another folder, or that ignore a part of the path, are only
suggested, with the keys that allow them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from orchestrator.datasets.files import Root, is_image
from orchestrator.datasets.listing import Note
from orchestrator.datasets.path_suffixes import PathsBySuffix, joined, without_suffix

MOST_ENTRIES = 50_000
"""Largest number of files and folders that are searched for files that a table may mean."""
_FOLDERS_ABOVE = 2
_MOST_TOLD = 3


@dataclass(frozen=True)
class Remedy:
    """Keys of `dataset:` with which more paths of a table lead to files.

    Attributes:
        root: new root folder; None to keep it.
        by_ending: whether paths have to be matched by their last parts.
        links: whether links that lead out of the folder have to be followed.
        num_found: number of paths that lead to files with these keys.
        example: one of these paths, and its file.
    """

    root: Path | None
    by_ending: bool
    links: bool
    num_found: int
    example: tuple[str, str]

    def keys(self) -> dict[str, str]:
        """Return the keys of `dataset:` with their values."""
        keys = {} if self.root is None else {"root": str(self.root)}
        keys |= {"match": "ending"} if self.by_ending else {}
        return keys | ({"links": "follow"} if self.links else {})

    def says(self, num_paths: int) -> str:
        """Return the text of the remedy for a problem line."""
        keys = " and ".join(f"dataset.{key}: {value}" for key, value in self.keys().items())
        path, file = self.example
        shown = f", such as {file!r} for {path!r}" if path != file else ""
        return f"with {keys}, {self.num_found:,} of {num_paths:,} would lead to files{shown}"


class Speller:
    """Corrects the spelling of paths that unambiguously mean one file.

    Args:
        root: the folder that holds the images.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stems: dict[PurePath, dict[str, list[str]]] = {}
        self._causes: tuple[tuple[str, Callable[[str], str | None]], ...] = (
            ("blanks around paths, taken off", _without_blanks),
            ("paths with backslashes, taken for slashes", _with_slashes),
            ("paths without the suffix of their files, or with another", self._with_suffix),
        )

    def spell(self, path: str) -> tuple[str, tuple[str, ...]] | None:
        """Return a spelling that leads to a file, and the causes it corrects; or None."""
        tried: list[tuple[str, tuple[str, ...]]] = [(path, ())]
        for cause, respell in self._causes:
            for spelled, causes in tuple(tried):
                other = respell(spelled)
                if other is not None:
                    tried.append((other, (*causes, cause)))
        return next((one for one in tried if self._root.refusal(one[0]) is None), None)

    def rivals(self, path: str) -> list[str]:
        """Return the images that a path without suffix may mean, if there are several."""
        names = self._names_with_suffix(PurePath(_with_slashes(path) or path))
        return names if len(names) > 1 else []

    def _with_suffix(self, path: str) -> str | None:
        place = PurePath(path)
        names = self._names_with_suffix(place)
        return str(place.with_name(names[0])) if len(names) == 1 else None

    def _names_with_suffix(self, place: PurePath) -> list[str]:
        if not place.name:
            return []
        if place.parent not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in sorted(filter(is_image, self._root.names(place.parent))):
                stems.setdefault(without_suffix(name), []).append(name)
            self._stems[place.parent] = stems
        known = self._stems[place.parent]
        return known.get(place.name) or known.get(without_suffix(place.name)) or []


def _without_blanks(path: str) -> str | None:
    return None if path == path.strip() else path.strip()


def _with_slashes(path: str) -> str | None:
    return path.replace("\\", "/") if "\\" in path else None


def spelled(
    paths: Sequence[str], refused: Sequence[str], root: Root
) -> tuple[list[str], list[Note]]:
    """Return the paths with their spelling corrected, if that helps most of them.

    Args:
        paths: paths of the table.
        refused: the distinct paths that lead to no file as written.
        root: the folder that holds the images.

    Returns:
        All paths, and a note per cause; unchanged if most lead to files already.
    """
    if not are_most(len(refused), len(paths)):
        return list(paths), []
    speller = Speller(root)
    found = {path: one for path in refused if (one := speller.spell(path)) is not None}
    if not are_most(len(found), len(refused)):
        return list(paths), []
    counts = Counter(cause for path in paths if path in found for cause in found[path][1])
    notes = [
        Note(
            f"{cause}: {count:,}, such as "
            + next(f"{one[0]!r} for {path!r}" for path, one in found.items() if cause in one[1])
        )
        for cause, count in counts.items()
    ]
    return [found[path][0] if path in found else path for path in paths], notes


def by_ending(
    paths: Sequence[str], refused: Sequence[str], root: Root
) -> tuple[list[str], list[Note]]:
    """Replace paths that lead to no file by the file with the longest common path suffix."""
    endings = PathsBySuffix(root)
    found = {path: file for path in refused if (file := endings.find(path)) is not None}
    if not found:
        return list(paths), []
    path, file = next(iter(found.items()))
    count = sum(one in found for one in paths)
    note = Note(f"paths matched with files by their ends: {count:,}, such as {file!r} for {path!r}")
    return [found.get(one, one) for one in paths], [note]


def remedies(paths: Sequence[str], refused: Sequence[str], root: Root) -> list[Remedy]:
    """Return the keys with which most refused paths would lead to files; empty if there are none.

    If most paths lead to files already, paths are not matched by their last parts: a missing file
    would be mistaken for another one of the same name.

    Args:
        paths: paths of the table.
        refused: the distinct paths that lead to no file.
        root: the folder that was assumed to hold the images.
    """
    if not refused:
        return []
    left = set(refused)
    num_found = sum(path not in left for path in paths)
    by_ends = are_most(len(refused), len(paths))
    for places in _candidates(refused, root):
        tried = (_tried(p, paths, refused, root) for p in places if by_ends or p[1] is None)
        found = [one for one in tried if one is not None and one.num_found > num_found]
        if found:
            most = max(one.num_found for one in found)
            return [one for one in found if one.num_found == most][:_MOST_TOLD]
    return []


_Place = tuple[Path, PathsBySuffix | None]
"""A folder to use as the root, and the matcher of path suffixes there, or None."""


def _candidates(refused: Sequence[str], root: Root) -> Iterator[list[_Place]]:
    """Yield candidate places, the likeliest first; those of one list are equally likely."""
    yield [(folder, None) for folder in _where_they_say(refused, root)]
    above = [folder for folder in root.path.parents[:_FOLDERS_ABOVE] if folder.parent != folder]
    for folder in (root.path, *above):
        base = Root(folder, follow=True)
        endings = PathsBySuffix(base, most=MOST_ENTRIES)
        yield [(joined(folder, place), None) for place in endings.places(refused)]
        files = [file for path in refused if (file := endings.find(path)) is not None]
        if folder == root.path:
            yield [(folder, endings)]
        elif files:
            place = Path(os.path.commonpath([folder / PurePath(file).parent for file in files]))
            yield [(place, PathsBySuffix(Root(place, follow=True), most=MOST_ENTRIES))]


def _where_they_say(refused: Sequence[str], root: Root) -> list[Path]:
    """Return the common folder of files that exist where the paths say, outside the root."""
    wholes = (Path(os.path.normpath(root.path / path)) for path in refused if "\0" not in path)
    folders = {whole.parent for whole in wholes if _is_file(whole)}
    return [Path(os.path.commonpath(folders))] if folders else []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _tried(
    place: _Place, paths: Sequence[str], refused: Sequence[str], root: Root
) -> Remedy | None:
    """Return the remedy that uses the folder; None if it helps at most half of the paths."""
    folder, endings = place
    if folder == root.path and endings is None:
        return None
    there = Root(folder, follow=True)
    strict = Root(folder, follow=root.follow)
    speller = Speller(there)
    found: dict[str, str] = {}
    for path in refused:
        one = speller.spell(path)
        file = one[0] if one is not None else endings and endings.find(path)
        if file and there.refusal(file) is None:
            found[path] = file
    if not are_most(len(found), len(refused)):
        return None
    others = Counter(paths)
    for path in refused:
        del others[path]
    num_others = sum(count for path, count in others.items() if there.refusal(path) is None)
    return Remedy(
        root=None if folder == root.path else folder,
        by_ending=endings is not None,
        links=any(strict.refusal(file) is not None for file in found.values()),
        num_found=sum(path in found for path in paths) + num_others,
        example=next(iter(found.items())),
    )


def are_most(part: int, whole: int) -> bool:
    """Return whether a part is more than half of the whole."""
    return 2 * part > whole
