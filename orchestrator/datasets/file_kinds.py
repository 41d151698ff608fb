"""Which files of a folder are its examples: images, or texts, by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from orchestrator.datasets.files import is_image, suffix_of
from orchestrator.space.problems import some

MOST_STRAY_FRACTION = 1 / 3
"""Share of the files that may be of another kind, such as a `readme.txt` in each class folder."""


@dataclass(frozen=True)
class FileKind:
    """Files of one modality.

    Attributes:
        noun: what one of them holds: the name of its modality.
        includes: whether a file is one of them, by its name.
    """

    noun: str
    includes: Callable[[str], bool]


def _is_text(name: str) -> bool:
    return suffix_of(name) == ".txt"


IMAGES = FileKind("image", is_image)
TEXTS = FileKind("text", _is_text)


def kind_of_files(names: Sequence[str]) -> FileKind:
    """The kind that most of these files are of; images where there are none of either.

    A text beside an image of the same name, as captions and annotations are, does not count.

    Args:
        names: of files, with their folders.
    """
    images, texts = _counted(names)
    return TEXTS if len(texts) > len(images) else IMAGES


def mixture(names: Sequence[str]) -> str | None:
    """What is wrong where files of both kinds may be the examples; None where that is clear."""
    images, texts = _counted(names)
    fewer = min(len(images), len(texts))
    if fewer <= MOST_STRAY_FRACTION * (len(images) + len(texts)):
        return None
    return (
        f"holds {len(images):,} images, such as {some(images[:1])}, and {len(texts):,} texts, such "
        f"as {some(texts[:1])}; allowed: one of the two. Move the others out of the folder"
    )


def _counted(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images, and the texts that have no image of the same name."""
    images = [name for name in names if IMAGES.includes(name)]
    beside = {PurePath(name).with_suffix("") for name in images}
    texts = [
        name
        for name in names
        if TEXTS.includes(name) and not (beside and PurePath(name).with_suffix("") in beside)
    ]
    return images, texts
