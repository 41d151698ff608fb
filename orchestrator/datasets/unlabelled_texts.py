"""Texts without labels, for an exported network: lines of a file or of standard input, or a column.

A table is read by Arrow, which is imported for one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.datasets.text_encoding import decoded, is_known
from orchestrator.errors import UsageError
from orchestrator.space.problems import NO_FILE, Problems, some
from trainable.errors import DataError

DEFAULT_COLUMN = "text"
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")


@dataclass(frozen=True)
class NamedText:
    """A text, and what messages call it.

    Attributes:
        name: such as `notes.txt, line 3`.
        text: as it was given.
    """

    name: str
    text: str


def texts_of_lines(content: bytes, *, where: str, encoding: str | None = None) -> list[NamedText]:
    """Return one text for each line, blank ones included.

    Args:
        content: of a file, or of standard input.
        where: name of it, for messages.
        encoding: as Python calls it; None for UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        UsageError: it is in another encoding.
    """
    _check_encoding(encoding)
    try:
        text = decoded(content, encoding)
    except DataError as error:
        raise UsageError(f"{where}: {str(error).replace('encoding:', '--encoding')}") from None
    # str.splitlines would break at characters that belong to a text.
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        del lines[-1]
    return [NamedText(f"{where}, line {number}", line) for number, line in enumerate(lines, 1)]


def texts_of_file(
    path: Path, *, column: str | None = None, encoding: str | None = None
) -> list[NamedText]:
    """Return the texts of a file: a column of a table, else one for each line.

    Args:
        path: of the file; a table is known by its suffix.
        column: of a table; None for `text`.
        encoding: see `texts_of_lines`.

    Raises:
        UsageError: the file cannot be read, or has no such column.
    """
    is_table = path.suffix.lower() in _TABLES
    if column is not None and not is_table:
        raise UsageError(
            f"--text-column {column}: {path} is no table; allowed: {', '.join(_TABLES)}. Leave it "
            "out to read one text from each line"
        )
    try:
        if is_table:
            return _texts_of_table(path, column=column or DEFAULT_COLUMN, encoding=encoding)
        return texts_of_lines(path.read_bytes(), where=str(path), encoding=encoding)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _texts_of_table(path: Path, *, column: str, encoding: str | None) -> list[NamedText]:
    import pyarrow as pa

    from orchestrator.datasets.table_file import open_table

    _check_encoding(encoding)
    try:
        table = open_table(path, wanted=[column], encoding=encoding)
        if column not in table.names:
            raise UsageError(
                f"--text-column: no column {column!r} in {path}; columns: {some(table.names)}"
            )
        values: Sequence[object] = table.read([column]).column(0).to_pylist()
    except DataError as error:
        raise UsageError(f"{path}: {str(error).replace('encoding:', '--encoding')}") from None
    except pa.ArrowException as error:
        raise UsageError(f"{path}: cannot be read as a table: {error}") from None
    return [
        NamedText(f"{path}, row {number}", "" if value is None else str(value))
        for number, value in enumerate(values, 1)
    ]


def _check_encoding(encoding: str | None) -> None:
    if not is_known(encoding, Problems(NO_FILE)):
        raise UsageError(
            f"--encoding {encoding}: got no encoding of text that Python knows; allowed: such as "
            "utf-8, latin-1, cp1252 or utf-16"
        )
