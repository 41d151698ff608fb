"""What backbones are called where people read: short, and unique within a sweep.

A search-space file names a backbone `NAME[@WEIGHTS]`, and WEIGHTS may be the long path of a file.
The whole of it stays in the file, in specs and in the journal's parameters; its path is in the
column `weights`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from urllib.parse import quote


def short_names(backbones: Iterable[str]) -> dict[str, str]:
    """A short name for each backbone of a sweep: `resnet50@my.safetensors` for a file's path.

    Where two would be the same, each gets as much more of its path's end as tells them apart.

    Args:
        backbones: as the search-space file spells them.

    Returns:
        Names by backbone, no two of which have the same `id_part`.
    """
    choices = {backbone: list(_choices(backbone)) for backbone in backbones}
    taken = dict.fromkeys(choices, 0)
    while True:
        names = {backbone: choices[backbone][place] for backbone, place in taken.items()}
        uses = Counter(map(id_part, names.values()))
        longer = [
            backbone
            for backbone, name in names.items()
            if uses[id_part(name)] > 1 and taken[backbone] + 1 < len(choices[backbone])
        ]
        if not longer:
            return names
        for backbone in longer:
            taken[backbone] += 1


def id_part(name: str) -> str:
    """A short name as a part of an id, which may become the name of a file."""
    return name.replace("/", "-")


def _choices(backbone: str) -> Iterator[str]:
    """Names that a backbone may have, the shortest first; the last is its own alone."""
    name, at, weights = backbone.partition("@")
    parts = PurePath(weights).parts if "/" in weights else ()
    for count in range(1, len(parts) + 1):
        yield name + at + str(PurePath(*parts[-count:]))
    if not parts:
        yield backbone
    yield quote(backbone, safe="@:")
