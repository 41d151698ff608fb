"""Image files below one folder: read fast, and never from outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from orchestrator.sources.likeness import likeness
from orchestrator.sources.listing import Ints, Read
from trainable.errors import DataError

MAX_FILE_BYTES = 2**30
"""A larger file is no photo; it is refused before it is read."""


def file_reader(root: Path, paths: Sequence[str]) -> Read:
    """Reads the files at these paths: relative ones lie below `root`."""
    prefix = f"{root}{os.sep}"

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        for row in rows:  # a hundred thousand joins of Path would take longer than the reading
            path = paths[row]
            yield read_file(path if path.startswith(os.sep) else prefix + path)

    return read


def read_file(path: str) -> bytes | DataError:
    """The bytes of a file, or the error that says why there are none."""
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
    return b"".join(parts)


class Root:
    """The folder that images have to lie in, links followed.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()
        self._inside: dict[Path, bool] = {}

    def holds(self, path: Path) -> bool:
        """Whether the file or folder lies inside, once links are followed."""
        return path.resolve().is_relative_to(self._real)

    def refusal(self, path: str) -> str | None:
        """Why a path cannot be read, in a few words that several paths can share; or None."""
        if "\0" in path:
            return "hold a NUL character"
        whole = self.path / path
        parent = whole.parent
        try:
            if parent not in self._inside:
                self._inside[parent] = self.holds(parent)
            if not self._inside[parent]:
                return f"lie outside {self.path}"
            mode = os.lstat(whole).st_mode
            if stat.S_ISLNK(mode):
                if not self.holds(whole):
                    return f"are links to somewhere outside {self.path}"
                mode = whole.stat().st_mode
        except (OSError, RuntimeError):  # resolve() calls a loop of links a RuntimeError
            return "are missing"
        return None if stat.S_ISREG(mode) else "are no files"

    def identity(self, path: str) -> tuple[int, int] | str:
        """What is equal for two paths to one file; of a path to none, the path itself."""
        try:
            found = (self.path / path).stat()
        except (OSError, ValueError):
            return path
        return found.st_dev, found.st_ino

    def twin(self, path: str) -> str | None:
        """The only file inside whose path looks like one that leads nowhere, or None."""
        place = PurePath()
        for part in PurePath(path).parts:
            name = self._named_like(place, part)
            if name is None:
                return None
            place /= name
        return str(place) if place.parts and (self.path / place).is_file() else None

    def _named_like(self, folder: PurePath, name: str) -> str | None:
        """What lies in a folder inside under this name, or under the only one that looks like it.

        Names are looked up in what lies there: a table's may be too long, or lead out.
        """
        whole = self.path / folder
        try:
            names = [entry.name for entry in whole.iterdir()] if self.holds(whole) else []
        except (OSError, RuntimeError):  # resolve() calls a loop of links a RuntimeError
            return None
        if name in names:
            return name
        like = [one for one in names if likeness(one) == likeness(name)]
        return like[0] if len(like) == 1 else None
