"""Reading of image files below one folder, fast and never from outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path, PurePath

from orchestrator.datasets.listing import Ints, Read
from orchestrator.datasets.name_keys import likeness
from trainable.errors import DataError
from trainable.modalities.image.decoding import image_suffixes

MAX_FILE_BYTES = 2**30
"""Largest file that is read, in bytes; a larger one is not a photo."""

FETCH = "fetch them (git annex get, dvc pull), or take the links away"
"""Advice about links to files that are not there."""
FOLLOW = "to read what they lead to, say dataset.links: follow"
"""Advice about links that lead out of the folder."""

_POINTERS = {
    b"version https://git-lfs.github.com/": "git lfs pull",
    b"/annex/objects/": "git annex get",
}
"""Content of a pointer file, which replaces one that was not fetched -> command that fetches it."""
_MOST_POINTER_BYTES = 1024


class Refusal(StrEnum):
    """Reasons why a path cannot be read, worded to apply to several paths."""

    NUL = "hold a NUL character"
    OUTSIDE = "lie outside"
    LINKED = "lead through links out of"
    DEAD = "are links to files that are not there"
    MISSING = "are missing"
    NO_FILE = "are no files"


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case with its dot, or ""."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return suffix_of(name) in image_suffixes()


def file_reader(root: Path, paths: Sequence[str]) -> Read:
    """Return a function that reads the files at these paths; relative ones lie below `root`."""
    prefix = f"{root}{os.sep}"

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        for row in rows:  # a hundred thousand joins of Path would take longer than the reading
            path = paths[row]
            yield read_file(path if path.startswith(os.sep) else prefix + path)

    return read


def read_file(path: str) -> bytes | DataError:
    """Return the bytes of a file, or the error why it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(handle).st_size
            if size > MAX_FILE_BYTES:
                return DataError(f"{size:,} bytes; allowed are {MAX_FILE_BYTES:,}")
            parts = [os.read(handle, size + 1)]
            while parts[-1] and sum(map(len, parts)) < size:
                parts.append(os.read(handle, size))
        finally:
            os.close(handle)
    except OSError as error:
        return DataError(f"cannot be read: {error.strerror or error}")
    content = b"".join(parts)
    return _unfetched(content) or content


def _unfetched(content: bytes) -> DataError | None:
    """Return the error of a pointer file, or None for any other content."""
    if len(content) <= _MOST_POINTER_BYTES:
        for start, command in _POINTERS.items():
            if content.startswith(start):
                return DataError(f"stands for a file that is not here; fetch it with {command}")
    return None


def unfetched(path: Path) -> str | None:
    """Return the problem with a file that is only a pointer to another one, or None.

    Args:
        path: a file of many images or rows; only its beginning is read.
    """
    try:
        with path.open("rb") as file:
            error = _unfetched(file.read(_MOST_POINTER_BYTES + 1))
    except OSError:
        return None
    return None if error is None else str(error)


class Root:
    """The folder that images have to lie in.

    Args:
        path: path of the folder.
        follow: whether links inside may lead out of it.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self.path = path
        self.follow = follow
        self._real = path.resolve()
        self._refused: dict[Path, Refusal | None] = {}

    def holds(self, path: Path) -> bool:
        """Return whether the file or folder may be read, with all links on its path resolved.

        A folder that contains this one is never allowed: following a link to it would not end.
        """
        real = path.resolve()
        if real.is_relative_to(self._real):
            return True
        return self.follow and not self._real.is_relative_to(real)

    def refusal(self, path: str) -> Refusal | None:
        """Return why a path cannot be read, or None."""
        if "\0" in path:
            return Refusal.NUL
        whole = self.path / path
        parent = whole.parent
        try:
            if parent not in self._refused:
                self._refused[parent] = self._refusal_of(parent)
            refused = self._refused[parent]
            if refused is not None:
                return refused
            mode = os.lstat(whole).st_mode
            if stat.S_ISLNK(mode):
                if not whole.exists():
                    return Refusal.DEAD
                if not self.holds(whole):
                    return Refusal.LINKED
                mode = whole.stat().st_mode
        except (OSError, RuntimeError):  # resolve() calls a loop of links a RuntimeError
            return Refusal.MISSING
        return None if stat.S_ISREG(mode) else Refusal.NO_FILE

    def _refusal_of(self, folder: Path) -> Refusal | None:
        """Return why no file in a folder can be read, or None."""
        if folder.resolve().is_relative_to(self._real):
            return None
        if not folder.is_relative_to(self.path) or ".." in folder.relative_to(self.path).parts:
            return Refusal.OUTSIDE
        return None if self.holds(folder) else Refusal.LINKED

    def identity(self, path: str) -> tuple[int, int] | str:
        """Return a key that is equal for two paths to one file; for no file, the path itself."""
        try:
            found = (self.path / path).stat()
        except (OSError, ValueError):
            return path
        return found.st_dev, found.st_ino

    def twin(self, path: str) -> str | None:
        """Return the only file inside whose path looks like one that does not exist, or None."""
        place = PurePath()
        for part in PurePath(path).parts:
            name = self._named_like(place, part)
            if name is None:
                return None
            place /= name
        return str(place) if place.parts and (self.path / place).is_file() else None

    def _named_like(self, folder: PurePath, name: str) -> str | None:
        """Return the entry of a folder with this name, or the only one that looks like it."""
        names = self.names(folder)
        if name in names:
            return name
        like = [one for one in names if likeness(one) == likeness(name)]
        return like[0] if len(like) == 1 else None

    def names(self, folder: PurePath) -> list[str]:
        """Return the names in a folder inside; empty if it cannot be read.

        Names of a table are compared with these, since its own may be too long, or lead out.
        """
        whole = self.path / folder
        try:
            return [entry.name for entry in whole.iterdir()] if self.holds(whole) else []
        except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL character
            return []
