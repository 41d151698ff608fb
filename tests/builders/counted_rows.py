"""How much feature readers compute of texts, without computing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.reader import FeatureReader
from trainable.features.readers import FeatureReaders

CPU = torch.device("cpu")


@dataclass
class Computed:
    """What went through a prefix.

    Attributes:
        passes: through the prefix.
        tokens: of all rows, padding and rows that only fill up a pass included.
    """

    passes: int = 0
    tokens: int = 0


@contextmanager
def counting() -> Iterator[Computed]:
    """Within the block, prefixes up to the head's inputs count rows and give zeros."""
    found = Computed()

    def between(reader: FeatureReader, base: int, level: int) -> Any:
        assert base == 0

        def prefix(tokens: Tensor, mask: Tensor) -> Tensor:
            found.passes += 1
            found.tokens += mask.numel()
            return torch.zeros(len(tokens), *reader._shape(level))

        return prefix

    with mock.patch.object(FeatureReader, "_between", between):
        yield found


def computed_of(
    texts: LabelledExamples, backbone: Backbone, indices: Any, *, size: int
) -> tuple[Computed, int]:
    """What reading some texts computes, and their real tokens.

    Args:
        texts: that the backbone's tokens are of.
        backbone: with tokens for texts of at most `size`.
        indices: (M,) of the texts.
        size: most tokens of a text.
    """
    readers = FeatureReaders(texts, backbone, size=size, device=CPU, precision="fp32")
    with counting() as computed:
        readers.head_inputs(np.asarray(indices))
    how = backbone.weights.text_preprocessing.before_pooling(size)
    lengths = backbone.tokens[how].lengths(texts.digests[indices])
    return computed, int(lengths.sum())
