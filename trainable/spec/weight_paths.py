"""Files of weights as search spaces name them: `FILE[#PART]`."""

from __future__ import annotations

from pathlib import Path, PurePath

MARK = "#"
"""What stands between a file and the part of it that is meant."""


def is_path(weights: str) -> bool:
    """Whether the text behind the @ is the path of a file, not a source's name for weights."""
    return "/" in weights or bool(PurePath(weights).suffix)


def split_part(weights: str) -> tuple[Path, str]:
    """The file that is meant, and which part of it; an empty text where no part is named.

    A file whose own name has a # is found under it.
    """
    path, mark, part = weights.rpartition(MARK)
    if not mark or "/" in part or Path(weights).exists():
        return Path(weights), ""
    return Path(path), part
