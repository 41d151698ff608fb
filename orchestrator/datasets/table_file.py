"""One file of a table, whatever its format: names of columns, then the columns that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.datasets.delimited_table import DelimitedTable
from orchestrator.datasets.files import suffix_of
from orchestrator.datasets.json_table import JsonTable
from orchestrator.datasets.saved_dataset import SavedDataset, is_saved_dataset

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")
TABLE_SUFFIXES = (*_DELIMITED, *_JSON, *_PARQUET)
"""Suffixes, in lower case, of the files that can be tables."""
TABLES_ALLOWED = ".csv, .tsv, .txt, .jsonl, .json or .parquet (save sheets as CSV)"


class TableFile(Protocol):
    """A file with a row an example.

    Attributes:
        names: of all columns; those of a delimited file without the blanks around them.
        is_delimited: whether blanks around a field may have been written for looks alone.
        lacks_header: whether the first line, which should name the columns, is a row.
        notes: what to know of how the file was read, one line each.
    """

    @property
    def names(self) -> Sequence[str]:
        """Of all columns."""

    @property
    def is_delimited(self) -> bool:
        """Whether blanks around a field may have been written for looks alone."""

    @property
    def lacks_header(self) -> bool:
        """Whether the first line, which should name the columns, is a row."""

    @property
    def notes(self) -> Sequence[str]:
        """What to know of how the file was read."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, of which there is one each; an empty field of a delimited file is null.

        Raises:
            OSError: the file cannot be read.
            DataError: it is in another encoding.
            pa.ArrowException: the file is no such table.
        """


def open_table(path: Path, *, wanted: Sequence[str] = (), encoding: str | None = None) -> TableFile:
    """The table of a file with one of `TABLE_SUFFIXES`, or of a data set saved to a folder.

    Args:
        path: of the file or the folder.
        wanted: columns that should be there; they help to tell what separates the fields.
        encoding: of text files, as Python calls it; None for UTF-8, or what a byte order mark says.

    Raises:
        OSError: the file cannot be read.
        DataError: it is in another encoding.
        pa.ArrowException: the file is no such table.
    """
    if is_saved_dataset(path):
        return SavedDataset(path)
    suffix = suffix_of(path.name)
    if suffix in _PARQUET:
        return _ParquetTable(path)
    if suffix in _JSON:
        return JsonTable(path, encoding=encoding)
    return DelimitedTable(path, wanted=wanted, encoding=encoding)


class _ParquetTable:
    """A Parquet file; see `TableFile`."""

    is_delimited = False
    lacks_header = False
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: Sequence[str] = pq.read_schema(path).names

    def read(self, columns: Sequence[str]) -> pa.Table:
        """See `TableFile`."""
        return pq.ParquetFile(self._path).read(columns=list(columns))
