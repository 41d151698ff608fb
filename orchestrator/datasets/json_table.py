"""JSON files of rows: one object a line, or one list of objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from orchestrator.datasets.text_encoding import decoded

_ALLOWED = 'one object a line, or a list of objects, such as {"text": ..., "label": ...}'


class JsonTable:
    """A JSON file with an object a row; see `orchestrator.datasets.table_file.TableFile`.

    Nothing is guessed: what looks like a date stays text.

    Args:
        path: of the file.
        encoding: see `open_table`.

    Raises:
        OSError: the file cannot be read.
        DataError: it is in another encoding.
        pa.ArrowInvalid: it holds no such objects.
    """

    is_delimited = False
    lacks_header = False
    notes: Sequence[str] = ()

    def __init__(self, path: Path, *, encoding: str | None = None) -> None:
        self._rows = _rows(decoded(path.read_bytes(), encoding))
        self.names: Sequence[str] = list(dict.fromkeys(name for row in self._rows for name in row))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The columns; null in rows that lack them."""
        return pa.table({name: self._column(name) for name in columns})

    def _column(self, name: str) -> pa.Array:
        values = [row.get(name) for row in self._rows]
        kinds = {type(value).__name__ for value in values if value is not None}
        if len(kinds) > 1:
            raise pa.ArrowInvalid(
                f"column {name!r} holds values of several types: {', '.join(sorted(kinds))}"
            )
        return pa.array(values, type=pa.large_string() if kinds <= {"str"} else None)


def _rows(text: str) -> list[Mapping[str, object]]:
    if text.lstrip()[:1] == "[":
        found = _parsed(text, "")
        rows = [("", row) for row in found] if isinstance(found, list) else [("", found)]
    else:
        rows = [
            (f"line {number:,}: ", _parsed(line, f"line {number:,}: "))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    checked: list[Mapping[str, object]] = []
    for where, row in rows:
        if not isinstance(row, dict):
            raise pa.ArrowInvalid(f"{where}a row is {_kind(row)}; allowed: {_ALLOWED}")
        checked.append(row)
    return checked


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise pa.ArrowInvalid(f"{where}{error}; allowed: {_ALLOWED}") from None


def _kind(value: object) -> str:
    names = {list: "a list", str: "text", type(None): "null", bool: "a bool"}
    return names.get(type(value), "a number")
