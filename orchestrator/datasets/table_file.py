"""A CSV or Parquet file -> a table of text columns; the delimiter is detected."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from orchestrator.datasets.files import is_image

_PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt")
TABLE_SUFFIXES = (*_TEXT, *_PARQUET)
"""Suffixes of table files, in lower case."""
TABLES_ALLOWED = ".csv, .tsv, .txt or .parquet (save sheets as CSV)"

_DELIMITERS = (",", ";", "\t", "|")
_HEAD_BYTES = 2**16
_FIRST_ROWS = 20
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""The line before the header in which spreadsheets note the delimiter."""


@dataclass(frozen=True)
class _Form:
    """The format of a text file.

    Attributes:
        delimiter: character between fields.
        skipped: number of lines before the header.
        encoding: Python's name of the encoding.
    """

    delimiter: str
    skipped: int
    encoding: str


class TableFile:
    """A table file with a header and one row per image.

    Args:
        path: path of the file, with one of `TABLE_SUFFIXES`.
        wanted: columns that should be there; they help to detect the delimiter.

    Attributes:
        names: names of all columns; those of a text file without blanks around them.
        is_text: whether it is a text file, where blanks around a field have no meaning.
        lacks_header: whether the first line of a text file is a row: it has an image's file name.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: names of columns are in another encoding.
        pa.ArrowException: the file is not a valid table.
    """

    def __init__(self, path: Path, *, wanted: Sequence[str] = ()) -> None:
        self._path = path
        self._form = None if path.suffix.lower() in _PARQUET else _form(path, wanted)
        self.is_text = self._form is not None
        if self._form is None:
            self._stored: list[str] = pq.read_schema(path).names
            self.names = self._stored
        else:
            with pyarrow.csv.open_csv(path, **self._options(self._form)) as opened:
                self._stored = opened.schema.names
            self.names = [name.strip() for name in self._stored]
        self.lacks_header = self.is_text and any(map(is_image, self.names))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read these columns, whose names are unique; from a text file as text, empty as null.

        Raises:
            OSError: the file cannot be read.
            pa.ArrowException: the file is not a valid table.
        """
        if self._form is None:
            return pq.ParquetFile(self._path).read(columns=list(columns))
        stored = [self._stored[self.names.index(name)] for name in columns]
        table = pyarrow.csv.read_csv(
            self._path,
            **self._options(self._form),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=stored,
                column_types=dict.fromkeys(stored, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        return table.rename_columns(list(columns))

    @staticmethod
    def _options(form: _Form) -> dict[str, object]:
        return {
            "read_options": pyarrow.csv.ReadOptions(skip_rows=form.skipped, encoding=form.encoding),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, newlines_in_values=True
            ),
        }


def _form(path: Path, wanted: Sequence[str]) -> _Form:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    encoding = "utf8"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    text = head.decode("utf-16" if encoding == "utf-16" else "utf-8-sig", errors="replace")
    noted = _SEPARATOR_LINE.match(text)
    if noted is not None:
        return _Form(noted[1], 1, encoding)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    return _Form(delimiter_of(text, wanted=wanted, usual=usual), 0, encoding)


def delimiter_of(text: str, *, wanted: Sequence[str] = (), usual: str = ",") -> str:
    """Return the character that separates the fields of a table.

    Candidates are compared by three criteria, in this order: the header has the wanted columns;
    the first rows have as many fields as the header; there is more than one field. Among equal
    candidates the usual one wins.

    Args:
        text: the beginning of the file, header first.
        wanted: columns that should be there.
        usual: the delimiter if no other character fits better.
    """

    def merits(delimiter: str) -> tuple[bool, bool, bool]:
        rows = _first_rows(text, delimiter)
        header = [name.strip() for name in rows[0]] if rows else []
        several = len(header) > 1
        alike = several and all(len(row) == len(header) for row in rows if row)
        return several and set(wanted) <= set(header), alike, several

    return max((usual, *_DELIMITERS), key=merits)


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    """Return the fields of the header and the first rows; a last row that may be cut is dropped."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _FIRST_ROWS:
                break
    except csv.Error:  # a field is too long: the delimiter is wrong
        return rows[:1]
    return rows[:-1] if len(rows) > 1 and len(text) >= _HEAD_BYTES // 2 else rows
