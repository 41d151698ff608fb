"""Weight files in search spaces: `FILE[#PART]`."""

from __future__ import annotations

from pathlib import Path, PurePath

MARK = "#"
"""Separator between a file and the name of a part of it."""


def is_path(weights: str) -> bool:
    """Return whether the text after the @ is a file's path, not a source's name for weights."""
    return "/" in weights or bool(PurePath(weights).suffix)


def split_part(weights: str) -> tuple[Path, str]:
    """Return the file, and the name of the part; an empty text if no part is named.

    An existing file whose own name has a # is taken whole.
    """
    path, mark, part = weights.rpartition(MARK)
    if not mark or "/" in part or Path(weights).exists():
        return Path(weights), ""
    return Path(path), part
