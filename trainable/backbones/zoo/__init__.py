"""Small backbones shipped with their weights: the registry, the network and the weight files.

In a checkout, `python -m tools.zoo.pretrain NAME` writes the weights again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainable.backbones.zoo.trunk import Trunk

__all__ = [
    "ENTRIES",
    "IMAGE_SIZE",
    "MEAN",
    "STD",
    "WEIGHTS_FOLDER",
    "ZooEntry",
    "build",
    "weights_path",
]

IMAGE_SIZE = 8
# Close to those of the generated images; all three channels are the same grey image.
MEAN = (0.25, 0.25, 0.25)
STD = (0.35, 0.35, 0.35)

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ZooEntry:
    """A backbone of the zoo.

    Attributes:
        name: name in search-space files.
        file: name of the weight file.
    """

    name: str
    file: str


ENTRIES: Mapping[str, ZooEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ZooEntry("tiny_strokes", "tiny_strokes.safetensors"),
            ZooEntry("tiny_fractals", "tiny_fractals.safetensors"),
            ZooEntry("tiny_untrained", "tiny_untrained.safetensors"),
        )
    }
)
"""One small residual network for images of 8x8 pixels, with weights pretrained on generated pen
strokes or on generated fractals, or with seeded random weights for comparison."""


def build(*, num_classes: int = 10) -> Trunk:
    """Build the architecture of every entry, with random weights from torch's global generator."""
    from trainable.backbones.zoo.trunk import Trunk

    return Trunk(num_classes=num_classes)


def weights_path(name: str) -> Path:
    """Return the path of an entry's weights: a safetensors state dict without the head.

    Raises:
        KeyError: no entry has this name.
    """
    if name not in ENTRIES:
        raise KeyError(f"no zoo entry {name!r}; there are: {', '.join(sorted(ENTRIES))}")
    return WEIGHTS_FOLDER / ENTRIES[name].file
