"""Paths of a table that lead nowhere as they stand: the known causes, and what mends each.

What can mean one thing only is done and noted: blanks around, backslashes, and a suffix that lacks
or differs.
What takes another folder, or leaves a part of the path aside, is told with the keys that allow it.
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
"""Files and folders that are looked through for those that a table may mean."""
_FOLDERS_ABOVE = 2
_MOST_TOLD = 3


@dataclass(frozen=True)
class Remedy:
    """Keys of `dataset:` with which more paths of a table lead to files.

    Attributes:
        root: the folder to name; None where it stays.
        by_ending: whether paths have to be matched by their ends.
        links: whether links that lead out of the folder have to be followed.
        num_found: paths that lead to files then.
        example: one of them, and its file.
    """

    root: Path | None
    by_ending: bool
    links: bool
    num_found: int
    example: tuple[str, str]

    def keys(self) -> dict[str, str]:
        """The keys of `dataset:`, each with what it has to say."""
        keys = {} if self.root is None else {"root": str(self.root)}
        keys |= {"match": "ending"} if self.by_ending else {}
        return keys | ({"links": "follow"} if self.links else {})

    def says(self, num_paths: int) -> str:
        """What a problem line says of it."""
        keys = " and ".join(f"dataset.{key}: {value}" for key, value in self.keys().items())
        path, file = self.example
        shown = f", such as {file!r} for {path!r}" if path != file else ""
        return f"with {keys}, {self.num_found:,} of {num_paths:,} would lead to files{shown}"


class Speller:
    """Spells paths such that they lead to files where one thing alone can be meant.

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
        """A spelling that leads to a file, and the causes that it mends; None for none."""
        tried: list[tuple[str, tuple[str, ...]]] = [(path, ())]
        for cause, respell in self._causes:
            for spelled, causes in tuple(tried):
                other = respell(spelled)
                if other is not None:
                    tried.append((other, (*causes, cause)))
        return next((one for one in tried if self._root.refusal(one[0]) is None), None)

    def rivals(self, path: str) -> list[str]:
        """The images that a path without their suffix may mean, where these are several."""
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
    """The paths as they lead to files, where that is a matter of spelling for most of them.

    Args:
        paths: of the table.
        refused: the distinct ones that lead to no file as they stand.
        root: the folder that holds the images.

    Returns:
        All paths, and a note for each cause; nothing changes where most lead to files anyway.
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
    """The paths, those that lead to no file replaced by the file whose path ends most alike."""
    endings = PathsBySuffix(root)
    found = {path: file for path in refused if (file := endings.find(path)) is not None}
    if not found:
        return list(paths), []
    path, file = next(iter(found.items()))
    count = sum(one in found for one in paths)
    note = Note(f"paths matched with files by their ends: {count:,}, such as {file!r} for {path!r}")
    return [found.get(one, one) for one in paths], [note]


def remedies(paths: Sequence[str], refused: Sequence[str], root: Root) -> list[Remedy]:
    """The keys with which most of the refused paths would lead to files; none where none do.

    Where most paths lead to files anyway, no ends of paths are matched: a file that is not there
    would be taken for another one of its name.

    Args:
        paths: of the table.
        refused: the distinct ones that lead to no file.
        root: the folder that was taken to hold the images.
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
"""A folder to take for the root, and what matches paths by their ends there."""


def _candidates(refused: Sequence[str], root: Root) -> Iterator[list[_Place]]:
    """What could be meant, the likeliest first: those of one list are equally likely."""
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
    """The folder around the files that lie where the paths say, which is not inside the root."""
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
    """What the folder brings, or None where that is not most of the refused paths."""
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
    """Whether a part is more than half of the whole."""
    return 2 * part > whole
