"""Paths in search spaces: weight files `FILE[#PART]`, and folders of models `SOURCE:FOLDER`."""

from __future__ import annotations

from pathlib import Path, PurePath

MARK = "#"
"""Separator between a file and the name of a part of it."""


def is_path(weights: str) -> bool:
    """Return whether the text after the @ is a file's path, not a source's name for weights."""
    return "/" in weights or bool(PurePath(weights).suffix)


def split_folder(name: str) -> tuple[str, str]:
    """Return the source, with its colon, and the folder of `SOURCE:FOLDER`.

    Both are empty if the name does not mean a folder: `SOURCE:ORG/NAME`, where there is no such
    folder, is a model of the Hugging Face hub.

    Args:
        name: of a backbone, without weights.
    """
    source, colon, place = name.partition(":")
    if not colon or not place:
        return "", ""
    is_folder = place.startswith(("/", "~", ".")) or Path(place).is_dir()
    return (source + colon, place) if is_folder else ("", "")


def split_part(weights: str) -> tuple[Path, str]:
    """Return the file, and the name of the part; an empty text if no part is named.

    An existing file whose own name has a # is taken whole.
    """
    path, mark, part = weights.rpartition(MARK)
    if not mark or "/" in part or Path(weights).exists():
        return Path(weights), ""
    return Path(path), part
