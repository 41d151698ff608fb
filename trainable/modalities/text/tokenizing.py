"""Texts -> tokens, by the content of a `tokenizer.json` alone; for the driver."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainable.backbones.tokenizer_files import read_tokenizer, unknown_id
from trainable.backbones.weights import TextPreprocessing
from trainable.data.tokens import TokenTable
from trainable.errors import BackboneError
from trainable.modalities.text.decoding import decode_text

if TYPE_CHECKING:
    from tokenizers import Encoding

_TEXTS_AT_A_TIME = 4096
"""What the library hands over of a text takes a hundred times the memory of its tokens."""

HEAD_SHARE = {"head": 1.0, "head_tail": 0.25}
"""Share of the kept tokens, behind the prompt, that are a text's beginning; the rest is its end.
128 and 382 of 510 are what Sun et al. 2019 (How to Fine-Tune BERT for Text Classification, section
5.3.1) found best."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenizedTexts:
    """The tokens of M different texts, and what tokenising found out about each.

    Attributes:
        table: their tokens, at most `max_length` each.
        num_tokens: (M,) int64 tokens of each row of the table before any was cut off, prompt and
            special tokens included.
        unknown_share: (M,) float64 share of a text's tokens that the tokenizer does not know, in
            0..1, special ones aside; 1 where it found no token at all.
        max_length: most tokens of a text.
    """

    table: TokenTable
    num_tokens: npt.NDArray[np.int64]
    unknown_share: npt.NDArray[np.float64]
    max_length: int

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """(M,) whether tokens of each text were cut off."""
        return np.greater(self.num_tokens, self.max_length)


@dataclass
class _Collected:
    """What was found of each text so far."""

    ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    unknown_share: list[float] = field(default_factory=list)


class TextTokenizer:
    """Turns texts into the tokens that a backbone was trained on.

    Args:
        content: of the folder's `tokenizer.json`.
        preprocessing: of the backbone's weights, with the length, prompt and truncation wanted.

    Raises:
        BackboneError: it is not the tokenizer of these weights, or the prompt leaves no place for
            a text.
    """

    def __init__(self, content: bytes, preprocessing: TextPreprocessing) -> None:
        found = hashlib.sha256(content).hexdigest()
        if found != preprocessing.tokenizer:
            raise BackboneError(
                f"tokenizer.json: got one with SHA-256 {found[:16]}...; allowed: the one that came "
                f"with the weights, {preprocessing.tokenizer[:16]}..."
            )
        self._how = preprocessing
        self._tokenizer: Any = read_tokenizer(content)
        self._unknown = unknown_id(content, self._tokenizer)
        self._num_prompt = self._count_prompt()
        self._head_share = HEAD_SHARE[preprocessing.truncate]

    def tokenize(self, encoded: Sequence[bytes]) -> TokenizedTexts:
        """The tokens of texts; exact copies become one row of the table.

        Args:
            encoded: texts in UTF-8, in any order.

        Raises:
            DataError: one of them is not UTF-8.
        """
        texts = {hashlib.sha256(text).digest(): text for text in encoded}
        found = _Collected()
        for encoding in self._encodings(list(texts.values())):
            self._collect(encoding, found)
        return TokenizedTexts(
            table=TokenTable.of(found.ids, digests=list(texts), pad_id=self._how.pad_id),
            num_tokens=np.asarray(found.num_tokens, dtype=np.int64),
            unknown_share=np.asarray(found.unknown_share, dtype=np.float64),
            max_length=self._how.max_length,
        )

    def _encodings(self, encoded: Sequence[bytes]) -> Iterator[Encoding]:
        for first in range(0, len(encoded), _TEXTS_AT_A_TIME):
            some = encoded[first : first + _TEXTS_AT_A_TIME]
            yield from self._tokenizer.encode_batch_fast([self._prepared(text) for text in some])

    def _prepared(self, encoded: bytes) -> str:
        text = f"{self._how.prompt}{decode_text(encoded)}".strip()
        return text.lower() if self._how.lowercase else text

    def _collect(self, encoding: Encoding, found: _Collected) -> None:
        ids = np.asarray(encoding.ids, dtype=np.int32)
        special = np.asarray(encoding.special_tokens_mask, dtype=np.bool_)
        own = ids[~special]
        found.num_tokens.append(len(ids))
        found.unknown_share.append(float((own == self._unknown).mean()) if len(own) else 1.0)
        if not len(ids):  # a mask of nothing but padding would give no number
            ids = np.asarray([self._how.pad_id], dtype=np.int32)
        elif len(ids) > self._how.max_length:
            ids = ids[self._kept(special)]
        found.ids.append(ids)

    def _kept(self, special: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Places of the tokens that a text is cut down to; special tokens and the prompt stay."""
        own = np.flatnonzero(~special)
        room = self._how.max_length - int(special.sum())
        head = self._num_prompt + int((room - self._num_prompt) * self._head_share)
        kept = np.concatenate([np.flatnonzero(special), own[:head], own[len(own) - room + head :]])
        return np.sort(kept)

    def _count_prompt(self) -> int:
        """The number of the prompt's own tokens.

        Raises:
            BackboneError: it leaves no place for a text.
        """
        encoding = self._tokenizer.encode(self._how.prompt.strip())
        num_special = int(sum(encoding.special_tokens_mask))
        if len(encoding.ids) >= self._how.max_length:
            raise BackboneError(
                f"max_length: got {self._how.max_length}; the prompt and {num_special} special "
                f"tokens take {len(encoding.ids)}, and a text needs at least one more"
            )
        return len(encoding.ids) - num_special
