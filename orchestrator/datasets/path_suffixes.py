"""Search for files below a folder by the last parts of their paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from orchestrator.datasets.files import Root, is_image
from orchestrator.datasets.walking import files_below

_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_DRIVE = re.compile(r"[A-Za-z]:")

_Parts = tuple[str, ...]


def without_suffix(name: str) -> str:
    """Return the name of a file without its suffix; numbers such as `scan.2` stay."""
    return _SUFFIX.sub("", name) or name


class PathsBySuffix:
    """The files below a folder, hidden ones left out.

    Args:
        root: the folder.
        most: largest number of entries to inspect, those near the top first; None for all.
    """

    def __init__(self, root: Root, *, most: int | None = None) -> None:
        self._by_name: dict[str, list[_Parts]] = {}
        self._by_stem: dict[str, list[_Parts]] = {}
        for folders, name in files_below(root, most=most):
            self._by_name.setdefault(name, []).append(folders)
            if is_image(name):
                self._by_stem.setdefault(without_suffix(name), []).append((*folders, name))

    def find(self, path: str) -> str | None:
        """Return the file that shares the longest path suffix; None without one or on a tie.

        Args:
            path: path in a table, from any machine; its file suffix may be missing or different.
        """
        folders = _parts(path)[:-1]
        found = [(_shared(folders, file[:-1]), file) for file in self._called(path)]
        longest = max((shared for shared, _ in found), default=0)
        best = [file for shared, file in found if shared == longest]
        return "/".join(best[0]) if len(best) == 1 else None

    def places(self, paths: Iterable[str]) -> list[str]:
        """Return folders below which the most paths, each in full, lead to files.

        Returns:
            Paths relative to the folder, all with the same number of matching files.
        """
        counts: Counter[_Parts] = Counter()
        for path in paths:
            folders = _parts(path)[:-1]
            for file in self._called(path):
                inside = file[:-1]
                if _shared(folders, inside) == len(folders):
                    counts[inside[: len(inside) - len(folders)]] += 1
        most = max(counts.values(), default=0)
        return sorted("/".join(place) for place, count in counts.items() if count == most)

    def _called(self, path: str) -> list[_Parts]:
        """Return the files with the name of a path; if there are none, regardless of suffix."""
        parts = _parts(path)
        if not parts:
            return []
        name = parts[-1]
        if name in self._by_name:
            return [(*folders, name) for folders in self._by_name[name]]
        return self._by_stem.get(name) or self._by_stem.get(without_suffix(name)) or []


def _parts(path: str) -> _Parts:
    """Return the names of folders and file of a path, without drive, root or `..`."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return tuple(parts[1:] if parts and _DRIVE.fullmatch(parts[0]) else parts)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of equal folders, counted from the end."""
    count = 0
    for mine, yours in zip(reversed(one), reversed(other), strict=False):
        if mine != yours:
            break
        count += 1
    return count


def joined(folder: Path, place: str) -> Path:
    """Return the folder at a place below another one; the empty place is that one itself."""
    return folder / PurePosixPath(place) if place else folder
