"""CSV and its kin -> a table of text columns: what separates and quotes fields is found out."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv

from orchestrator.datasets.files import is_image
from orchestrator.datasets.text_encoding import decoded
from trainable.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_HEAD_CHARS = 2**16
_FIRST_ROWS = 20
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""How a spreadsheet notes, before the header, what separates fields."""
_MOST_COMPARED_ROWS = 1000
_QUOTES_STAY = "quotation marks are parts of the fields: in some lines one opens that none closes"
_BLOCK_BYTES = 2**24
"""What Arrow parses at a time; no row may be longer."""


@dataclass(frozen=True)
class _Form:
    """How the fields of a text file are told apart.

    Attributes:
        delimiter: one character between fields.
        skipped: lines before the header.
        quoted: whether `"` around a field is no part of it.
    """

    delimiter: str
    skipped: int
    quoted: bool


class DelimitedTable:
    """A text file with a header and a row an example.

    See `orchestrator.datasets.table_file.TableFile`.

    Args:
        path: of the file.
        wanted: columns that should be there; they help to tell what separates the fields.
        encoding: see `open_table`.

    Raises:
        OSError: the file cannot be read.
        DataError: names of columns are in another encoding.
        pa.ArrowException: the file is no such table.
    """

    is_delimited = True

    def __init__(
        self, path: Path, *, wanted: Sequence[str] = (), encoding: str | None = None
    ) -> None:
        content = path.read_bytes()
        self._problem: DataError | None = None
        try:
            text = decoded(content, encoding)
            content = text.encode()
        except DataError as error:  # perhaps in a column that nobody wants
            if encoding is not None:
                raise
            self._problem = error
            content = content.removeprefix(codecs.BOM_UTF8)
            text = content.decode(errors="replace")
        self._content = content
        self._form = _form(
            text, usual="\t" if path.suffix.lower() == ".tsv" else ",", wanted=wanted
        )
        try:
            with pyarrow.csv.open_csv(pa.BufferReader(content), **self._options()) as opened:
                self._stored: list[str] = opened.schema.names
        except UnicodeDecodeError:
            raise self._problem or DataError("has columns whose names are no text") from None
        self.names: Sequence[str] = [name.strip() for name in self._stored]
        self.lacks_header = any(map(is_image, self.names)) or (
            not set(wanted) & set(self.names) and _header_recurs(text, self._form)
        )

    @property
    def notes(self) -> Sequence[str]:
        """A line where quotation marks are taken for characters of the fields."""
        return [] if self._form.quoted else [_QUOTES_STAY]

    def read(self, columns: Sequence[str]) -> pa.Table:
        """See `orchestrator.datasets.table_file.TableFile`."""
        stored = [self._stored[self.names.index(name)] for name in columns]
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(self._content),
                **self._options(),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=stored,
                    column_types=dict.fromkeys(stored, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            if self._problem is not None and "UTF8" in str(error):
                raise self._problem from None
            raise
        return table.rename_columns(list(columns))

    def _options(self) -> dict[str, object]:
        form = self._form
        return {
            "read_options": pyarrow.csv.ReadOptions(
                skip_rows=form.skipped, block_size=_BLOCK_BYTES
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=form.delimiter,
                newlines_in_values=form.quoted,
                quote_char='"' if form.quoted else False,
            ),
        }


def _form(text: str, *, usual: str, wanted: Sequence[str]) -> _Form:
    noted = _SEPARATOR_LINE.match(text)
    delimiter = (
        noted[1]
        if noted is not None
        else delimiter_of(text[:_HEAD_CHARS], wanted=wanted, usual=usual)
    )
    skipped = 1 if noted is not None else 0
    return _Form(delimiter, skipped, _is_quoted(text, delimiter, skipped=skipped))


def _is_quoted(text: str, delimiter: str, *, skipped: int) -> bool:
    """Whether quotation marks enclose fields, rather than being characters of a text.

    They are characters where every line is a row of as many fields as the header, and quoted
    fields would not be quoted as they should be. Between tabs they are, too, where they would join
    such lines: unless some are doubled, as they are within quoted fields alone.
    """
    if '"' not in text:
        return True
    lines = [line for line in _lines(text)[skipped:] if line]
    if not lines or {line.count(delimiter) for line in lines} != {lines[0].count(delimiter)}:
        return True
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    joined = len(rows) < len(lines) and '""' not in text
    return len({len(row) for row in rows}) == 1 and not (joined and delimiter == "\t")


def _header_recurs(text: str, form: _Form) -> bool:
    """Whether a field of the first line is one of its own column further down: a label is."""
    head = io.StringIO("\n".join(_lines(text)[form.skipped : _MOST_COMPARED_ROWS]))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE
    try:
        header, *rows = csv.reader(head, delimiter=form.delimiter, quoting=quoting)
    except (csv.Error, ValueError):
        return False
    return any(
        field and field == other for row in rows for field, other in zip(header, row, strict=False)
    )


def _lines(text: str) -> list[str]:
    """The lines as tables break them: `str.splitlines` would break at other characters, too."""
    return re.split(r"\r\n|\n|\r", text)


def delimiter_of(text: str, *, wanted: Sequence[str] = (), usual: str = ",") -> str:
    """The character that separates the fields of a table.

    It makes the wanted columns, as many fields in each of the first rows as in the header, and
    more than one field; what makes more of these true wins, and then the usual one.

    Args:
        text: the beginning of the file, header first.
        wanted: columns that should be there.
        usual: what separates fields where nothing speaks for another character.
    """

    def merits(delimiter: str) -> tuple[bool, bool, bool]:
        rows = _first_rows(text, delimiter)
        header = [name.strip() for name in rows[0]] if rows else []
        several = len(header) > 1
        alike = several and all(len(row) == len(header) for row in rows if row)
        return several and set(wanted) <= set(header), alike, several

    return max((usual, *_DELIMITERS), key=merits)


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    """Fields of the header and the first rows; the last row may be cut off and is left out."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _FIRST_ROWS:
                break
    except csv.Error:  # a field beyond any length: these are no rows of this kind
        return rows[:1]
    return rows[:-1] if len(rows) > 1 and len(text) >= _HEAD_CHARS // 2 else rows
