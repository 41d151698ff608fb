"""Tokens of texts, padded to one length, as one backbone sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.tokens import TokenTable, mask_of
from trainable.modalities.modality import Indices
from trainable.modalities.text.buckets import texts_a_pass

_FORMAT = 1
"""Raised whenever the same key would come to mean other tokens."""


class TextInputs:
    """int32 tokens of texts of one padded length, and their mask; see `Inputs`.

    Args:
        texts: their digests are read.
        tokens: of the texts.
        preprocessing: that made the tokens.
        length: padded length, in tokens.
    """

    dtype: npt.DTypeLike = np.int32
    stored = False  # they are in memory
    row_s = 0.0

    def __init__(
        self,
        texts: LabelledExamples,
        tokens: TokenTable,
        preprocessing: TextPreprocessing,
        *,
        length: int,
    ) -> None:
        self._digests = texts.digests
        self._tokens = tokens
        self._length = length
        self.batch = texts_a_pass(length)
        self.shape: tuple[int, ...] = (length,)
        self.key: Mapping[str, Any] = {
            "format": _FORMAT,
            "preprocessing": asdict(preprocessing),
            "length": length,
        }
        self.content_key: Mapping[str, Any] = {"tokens": self.key}

    def rows(self, indices: Indices) -> npt.NDArray[np.int32]:
        """(M, length) int32 tokens.

        Raises:
            DataError: a text has not been tokenised.
        """
        return self._tokens.padded(self._digests[indices], self._length)

    def content(self, rows: Tensor) -> Tensor:
        """Return int64 tokens."""
        return rows.long()

    def side(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return the mask: (M, length) int64, 1 for tokens and 0 for padding."""
        lengths = self._tokens.lengths(self._digests[indices])
        return (torch.from_numpy(mask_of(lengths, self._length)),)
