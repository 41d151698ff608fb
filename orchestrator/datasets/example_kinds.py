"""What the code that all sources share asks of a modality, by the modality's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from orchestrator.datasets import texts
from orchestrator.datasets.image_checker import ImageChecker
from trainable.modalities.image.decoding import ValueRange


class Checker(Protocol):
    """Looks whether examples can be used, perhaps in threads."""

    def add(self, row: int, content: bytes, *, check: bool, measure: bool) -> None:
        """Queue an example to be checked, measured or both."""


@dataclass(frozen=True, kw_only=True)
class ExampleKind:
    """Examples of one modality.

    Attributes:
        checker: opens what checks examples, from what is called with row and reason of each that
            cannot be used, and with the range of values of each that is measured.
        copy_digest: encoded bytes -> 32 bytes, equal for copies, which no split may separate; None
            where copies are equal in every byte, and are looked for alone.
        copies: what messages call copies.
        preview: encoded bytes -> what messages show of them; None where they show paths alone.
    """

    checker: Callable[
        [Callable[[int, str], None], Callable[[ValueRange], None]], AbstractContextManager[Checker]
    ]
    copy_digest: Callable[[bytes], bytes] | None
    copies: str
    preview: Callable[[bytes], str] | None


EXAMPLE_KINDS: Mapping[str, ExampleKind] = {
    "image": ExampleKind(
        checker=ImageChecker,
        copy_digest=None,
        copies="exact copies",
        preview=None,
    ),
    "text": ExampleKind(
        checker=texts.TextChecker,
        copy_digest=texts.copy_digest,
        copies="copies",
        preview=texts.preview,
    ),
}
"""The kinds of examples that sources can list, by modality."""
