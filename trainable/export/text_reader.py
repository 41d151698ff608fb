"""Texts -> batches of tokens for an exported network, by the `tokenizer.json` beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainable.backbones import tokenizer_files
from trainable.data.tokens import mask_of
from trainable.errors import BackboneError, ExportError
from trainable.export.exchange_formats import Batch
from trainable.export.model_config import ModelConfig
from trainable.export.network_kinds import ReadExamples, in_pieces
from trainable.modalities.text.buckets import padded_lengths
from trainable.modalities.text.decoding import is_blank
from trainable.modalities.text.tokenizing import TextTokenizer, TokenizedTexts

BLANK = "the text is blank: it holds nothing but white space"


BATCH = 32
"""Most texts of a batch."""


class TextReader:
    """Tokenises texts as in training; see `InputReader`.

    Args:
        about: description of the network.
        folder: where its tokenizer lies.

    Raises:
        ExportError: the tokenizer is missing, damaged, or another one.
    """

    at_a_time = 256

    def __init__(self, about: ModelConfig, folder: Path) -> None:
        self._max_length = about.text_preprocessing.max_length
        path = folder / tokenizer_files.NAME
        try:
            self._tokenizer = TextTokenizer(path.read_bytes(), about.text_preprocessing)
        except FileNotFoundError:
            raise ExportError(f"{path}: no such file; export the network again") from None
        except OSError as error:
            raise ExportError(f"{path}: cannot be read: {error.strerror or error}") from None
        except BackboneError as error:
            raise ExportError(f"{folder}: {error}") from None

    def read(self, given: Sequence[str]) -> ReadExamples:
        """Return tokens of texts and their masks, a batch for each padded length."""
        problems: dict[int, str] = {}
        encoded: dict[int, bytes] = {}
        for place, text in enumerate(given):
            try:
                encoded[place] = text.encode()
            except UnicodeEncodeError as error:
                problems[place] = f"cannot be read: no text ({text[error.start]!a})"
                continue
            if is_blank(text):
                problems[place] = BLANK
                del encoded[place]
        if not encoded:
            return ReadExamples(batches=[], problems=problems)
        found = self._tokenizer.tokenize(list(encoded.values()))
        rows = found.table.rows(_digests(list(encoded.values())))
        notes = {
            place: f"{found.num_tokens[row]:,} tokens, cut to {self._max_length:,}"
            for place, row in zip(encoded, rows, strict=True)
            if found.truncated[row]
        }
        return ReadExamples(
            batches=self._batches(list(encoded), rows, found), problems=problems, notes=notes
        )

    def content(self, content: Tensor) -> Tensor:
        """Return the tokens as they are."""
        return content

    def _batches(
        self, places: Sequence[int], rows: np.ndarray, found: TokenizedTexts
    ) -> list[tuple[Sequence[int], Batch]]:
        digests = found.table.digests[rows]
        lengths = found.table.lengths(digests)
        padded = padded_lengths(lengths, max_length=self._max_length)
        batches: list[tuple[Sequence[int], Batch]] = []
        for length in np.unique(padded).tolist():
            for chosen in in_pieces(np.flatnonzero(padded == length).tolist(), BATCH):
                tokens = torch.from_numpy(found.table.padded(digests[chosen], length)).long()
                mask = torch.from_numpy(mask_of(lengths[chosen], length))
                batches.append(([places[one] for one in chosen], (tokens, mask)))
        return batches


def _digests(encoded: Sequence[bytes]) -> np.ndarray:
    """(N, 32) uint8 SHA-256 of texts."""
    joined = b"".join(hashlib.sha256(text).digest() for text in encoded)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)
