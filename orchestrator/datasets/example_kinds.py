"""What the code that all sources share asks of a modality, by the modality's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from orchestrator.datasets import texts
from orchestrator.datasets.contact_sheet import contact_sheet
from orchestrator.datasets.image_checker import ImageChecker
from orchestrator.datasets.listing import Ints
from orchestrator.datasets.looks import Looks, look_at_images, look_at_texts
from trainable.data.labelled_examples import LabelledExamples
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
        look: measures the examples of these rows.
        sheet: draws some of the examples of these rows; None where they are no pictures.
    """

    checker: Callable[
        [Callable[[int, str], None], Callable[[ValueRange], None]], AbstractContextManager[Checker]
    ]
    copy_digest: Callable[[bytes], bytes] | None
    copies: str
    preview: Callable[[bytes], str] | None
    look: Callable[[LabelledExamples, Ints], Looks]
    sheet: Callable[[LabelledExamples, Ints], Image] | None


EXAMPLE_KINDS: Mapping[str, ExampleKind] = {
    "image": ExampleKind(
        checker=ImageChecker,
        copy_digest=None,
        copies="exact copies",
        preview=None,
        look=look_at_images,
        sheet=contact_sheet,
    ),
    "text": ExampleKind(
        checker=texts.TextChecker,
        copy_digest=texts.copy_digest,
        copies="copies",
        preview=texts.preview,
        look=look_at_texts,
        sheet=None,
    ),
}
"""The kinds of examples that sources can list, by modality."""
