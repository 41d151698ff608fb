"""Reading of `tokenizer.json`, by the package `tokenizers`, which is an optional extra."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trainable.errors import BackboneError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "tokenizer.json"

NO_TOKEN = -1
"""Stands for a token that a tokenizer does not have."""


def read_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizer, which neither truncates nor pads, whatever its file says.

    Raises:
        BackboneError: the file is damaged, or the package is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise BackboneError(
            "tokenizers is not installed; install it with: pip install 'sft-sweep[transformers]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the package raises nothing narrower
        raise BackboneError(
            f"{NAME} is damaged, or of a newer form than is read here: {error}"
        ) from (None)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def unknown_id(content: bytes, tokenizer: Tokenizer) -> int:
    """The token that stands for what a tokenizer does not know; `NO_TOKEN` where it knows all."""
    model: dict[str, Any] = json.loads(content)["model"]
    found = model.get("unk_id")  # Unigram has a number, all others have the text
    if found is None and model.get("unk_token"):
        found = tokenizer.token_to_id(model["unk_token"])
    return NO_TOKEN if found is None else int(found)


def highest_id(tokenizer: Tokenizer) -> int:
    """The highest token that it can give."""
    return max(tokenizer.get_vocab().values(), default=NO_TOKEN)
