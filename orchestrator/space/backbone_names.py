"""Short backbone names for display, unique within a sweep.

A search-space file names a backbone `NAME[@WEIGHTS]`, and WEIGHTS may be the long path of a file,
or NAME end in that of a folder.
The file, specs and the journal's parameters keep the full spelling; the path is in the column
`weights`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from urllib.parse import quote

from trainable.spec.weight_paths import split_folder


def short_names(backbones: Iterable[str]) -> dict[str, str]:
    """Return a short name for each backbone: `resnet50@my.safetensors` for a file's path.

    Names that would be equal keep more trailing parts of their paths until they differ.

    Args:
        backbones: as the search-space file spells them.

    Returns:
        Short name by backbone; the names are unique, also under `id_part`.
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
    """Return a short name in the form used in ids, which can become file names."""
    return name.replace("/", "-")


def _choices(backbone: str) -> Iterator[str]:
    """Yield the possible names of a backbone, shortest first; the last is always unique."""
    name, at, weights = backbone.partition("@")
    source, folder = split_folder(name)
    if folder:
        before, path, after = source, folder, at + weights
    else:
        before, path, after = name + at, weights, ""
    parts = PurePath(path).parts if "/" in path else ()
    for count in range(1, len(parts) + 1):
        yield before + str(PurePath(*parts[-count:])) + after
    if not parts:
        yield backbone
    yield quote(backbone, safe="@:")
