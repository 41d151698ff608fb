"""Tokens of texts as plain arrays, which the driver makes once and workers look up by hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trainable.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenTable:
    """The tokens of M different texts, one text after another.

    Attributes:
        ids: (T,) int32 tokens of all texts.
        starts: (M + 1,) int64 position in `ids` where each text begins, and T.
        digests: (M, 32) uint8 SHA-256 of the encoded bytes of each text; see `LabelledExamples`.
        pad_id: token that pads short texts.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]
    pad_id: int

    @classmethod
    def of(
        cls, texts: Sequence[npt.NDArray[np.int32]], *, digests: Sequence[bytes], pad_id: int
    ) -> TokenTable:
        """Return the table of some texts.

        Args:
            texts: tokens of each of M texts.
            digests: SHA-256 of the encoded bytes of each text; no two are equal.
            pad_id: token that pads short texts.
        """
        lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
        return cls(
            ids=np.concatenate([np.empty(0, np.int32), *texts]),
            starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            digests=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32),
            pad_id=pad_id,
        )

    def __len__(self) -> int:
        return len(self.digests)

    def rows(self, digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return the rows of some texts.

        Args:
            digests: (K, 32) uint8 hashes of texts, in any order; a text may occur several times.

        Returns:
            (K,) int64 rows of the table.

        Raises:
            DataError: a text is not in the table.
        """
        keys = [digest.tobytes() for digest in digests]
        try:
            return np.fromiter((self._rows[key] for key in keys), dtype=np.int64, count=len(keys))
        except KeyError as error:
            raise DataError(
                f"the text with SHA-256 {error.args[0].hex()[:16]}... has not been tokenised"
            ) from None

    def lengths(self, digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """(K,) int64 numbers of tokens of some texts; see `rows`."""
        rows = self.rows(digests)
        return self.starts[rows + 1] - self.starts[rows]

    def padded(self, digests: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.int32]:
        """Return the tokens of some texts, padded on the right to one length.

        Args:
            digests: see `rows`.
            length: number of tokens to pad to; no text is longer.

        Returns:
            (K, length) int32 tokens.

        Raises:
            DataError: a text is not in the table.
        """
        rows = self.rows(digests)
        lengths = self.starts[rows + 1] - self.starts[rows]
        filled = np.full((len(rows), length), self.pad_id, dtype=np.int32)
        column = np.arange(length)
        places = self.starts[rows][:, None] + column
        kept = column < lengths[:, None]
        filled[kept] = self.ids[places[kept]]
        return filled

    @cached_property
    def _rows(self) -> Mapping[bytes, int]:
        return {digest.tobytes(): row for row, digest in enumerate(self.digests)}


def mask_of(lengths: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """(K, length) int64 mask of texts padded on the right: 1 for tokens, 0 for padding."""
    return (np.arange(length) < lengths[:, None]).astype(np.int64)
