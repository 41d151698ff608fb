"""Texts as examples: their UTF-8 bytes, and what makes two of them copies of one another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from orchestrator.datasets.listing import Contents, Ints, Read
from orchestrator.datasets.name_keys import likeness
from orchestrator.datasets.text_encoding import decoded
from trainable.errors import DataError
from trainable.modalities.text.decoding import check_text

MOST_SHOWN_CHARS = 80
"""Characters of a text that messages show."""


def texts_in_memory(names: Sequence[str], texts: Sequence[str]) -> Contents:
    """Texts that are there already, such as those of a table.

    Args:
        names: N distinct names, as messages and tables show them.
        texts: N texts.
    """

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        for row in rows:
            yield _encoded(texts[row])

    return Contents(paths=names, read=read, modality="text")


def decoding_reader(read_files: Read, encoding: str | None) -> Read:
    """Reads files of one text each, and gives their UTF-8.

    Args:
        read_files: gives their bytes.
        encoding: theirs, as Python calls it; None for UTF-8, or what a byte order mark says.
    """

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        for content in read_files(rows):
            yield content if isinstance(content, DataError) else _recoded(content, encoding)

    return read


def copy_digest(encoded: bytes) -> bytes:
    """(32 bytes) equal for texts that are copies of one another.

    Copies may differ in case, in blanks, and in the Unicode form of their characters (NFKC).
    """
    return hashlib.sha256(likeness(encoded.decode()).encode()).digest()


def preview(encoded: bytes, *, most: int = MOST_SHOWN_CHARS) -> str:
    """The beginning of a text on one line."""
    line = " ".join(encoded.decode()[: 4 * most].split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _recoded(content: bytes, encoding: str | None) -> bytes | DataError:
    try:
        return _encoded(decoded(content, encoding))
    except DataError as error:
        return DataError(str(error))


def _encoded(text: str) -> bytes | DataError:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        return DataError(f"holds half of a surrogate pair, {text[error.start]!a}, which is no text")


class TextChecker:
    """Reports texts that cannot be used; the counterpart of `ImageChecker`.

    Args:
        report: called with row and reason of each text that holds nothing to read.
        measured: of images; not called.
    """

    def __init__(
        self, report: Callable[[int, str], None], measured: Callable[[tuple[int, int]], None]
    ) -> None:
        del measured
        self._report = report

    def __enter__(self) -> TextChecker:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def add(self, row: int, content: bytes, *, check: bool, measure: bool) -> None:
        """Check a text."""
        del measure
        try:
            if check:
                check_text(content)
        except DataError as error:
            self._report(row, str(error))
