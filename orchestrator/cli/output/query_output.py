"""Writing of query results batch by batch, as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from orchestrator.cli.output.escaping import csv_cell
from orchestrator.cli.output.render import data_stdout, output_width
from orchestrator.errors import StorageError, UsageError
from orchestrator.signals import exiting_on_sigterm
from orchestrator.text import plural, printable
from trainable.atomic_files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.reading.query import QueryResult

MOST_ROWS = 200
"""Rows printed in a table; the other forms hold all."""

_GAP = "  "


class Form(StrEnum):
    """The format of a query's result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def form_of(requested: Form | None, out: Path | None) -> Form:
    """The form given by a flag or, without one, by the suffix of the output file.

    Args:
        requested: form that a flag names, or None.
        out: output file, or None for stdout.

    Raises:
        UsageError: the suffix is unknown, or Parquet would go to a terminal.
    """
    if requested is None and out is not None:
        try:
            requested = Form(out.suffix.removeprefix(".").lower())
        except ValueError:
            requested = Form.TABLE
        if requested is Form.TABLE:
            raise UsageError(
                f"-o {out}: got the ending {out.suffix or 'of no file'!r}; allowed: .csv, .json, "
                ".parquet, or any with --csv, --json or --parquet"
            )
    if requested is Form.PARQUET and out is None and sys.stdout.isatty():
        raise UsageError("--parquet: not to a terminal; add -o FILE, or send stdout to a file")
    return requested or Form.TABLE


def write(result: QueryResult, form: Form, out: Path | None) -> None:
    """Write a result to stdout, or atomically to a file.

    Args:
        result: schema and batches of the result; the batches are consumed.
        form: format to write.
        out: output file, or None for stdout.

    Raises:
        UsageError: the query fails, or the form cannot hold its result.
        StorageError: the file cannot be written.
    """
    if form is Form.TABLE:
        _show(result)
        return
    writers: dict[Form, Callable[[QueryResult, Any], None]] = {
        Form.CSV: _write_csv,
        Form.JSON: _write_json,
        Form.PARQUET: _write_parquet,
    }
    writer = writers[form]
    if out is None:
        writer(result, sys.stdout.buffer if form is Form.PARQUET else data_stdout())
        return
    mode: Literal["w", "wb"] = "wb" if form is Form.PARQUET else "w"
    try:
        with (
            exiting_on_sigterm(),
            atomic_write(out, mode, newline="" if mode == "w" else None) as sink,
        ):
            writer(result, sink)
    except OSError as error:
        raise StorageError(f"-o {out}: cannot be written: {error.strerror or error}") from error
    print(f"written: {out}", file=sys.stderr)


def _rows(result: QueryResult) -> Iterator[dict[str, Any]]:
    for batch in result.batches:
        try:
            yield from batch.to_pylist()
        except (OverflowError, ValueError) as error:  # such as a date before year 1
            raise UsageError(
                f"query: a value is out of range ({error}); cast the column to VARCHAR"
            ) from error


def _write_csv(result: QueryResult, sink: IO[str]) -> None:
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in result.schema.names])
    for row in _rows(result):
        writer.writerow([csv_cell(_scalar(value)) for value in row.values()])


def _write_json(result: QueryResult, sink: IO[str]) -> None:
    """Write a JSON array with one object per line."""
    before = "[\n"
    for row in _rows(result):
        sink.write(before + json.dumps(_json_value(row)))
        before = ",\n"
    sink.write("\n]\n" if before != "[\n" else "[]\n")


def _write_parquet(result: QueryResult, sink: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetWriter(sink, result.schema, compression="zstd") as writer:
            for batch in result.batches:
                writer.write_batch(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UsageError(f"query: Parquet cannot hold it ({error}); cast the column") from error


def _show(result: QueryResult) -> None:
    """Print a table or, if it is wider than the terminal, one block of lines per row."""
    from rich.cells import cell_len

    rows = list(islice(_rows(result), MOST_ROWS + 1))
    names = [printable(name) for name in result.schema.names]
    cells = [[_cell(value) for value in row.values()] for row in rows[:MOST_ROWS]]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    # Output to a file or a pipe is never folded: a truncated value would be wrong.
    if cells and sys.stdout.isatty() and sum(widths) + len(_GAP) * len(widths) > output_width():
        _show_upright(names, cells)
    else:
        rights = [_is_number(column.type) for column in result.schema]
        for line in [names, [_rule() * width for width in widths], *cells]:
            padded = (
                " " * (width - cell_len(cell)) + cell
                if right
                else cell + " " * (width - cell_len(cell))
                for cell, width, right in zip(line, widths, rights, strict=True)
            )
            print(_GAP.join(padded).rstrip())
    if len(rows) > MOST_ROWS:
        print(f"the first {MOST_ROWS} rows; all of them with --csv, --json or -o FILE")
    else:
        print(plural(len(rows), "row"))


def _rule() -> str:
    """The character of the line below a header; ASCII if stdout cannot encode the other."""
    try:
        "\u2500".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "-"
    return "\u2500"


def _is_number(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _show_upright(names: list[str], cells: list[list[str]]) -> None:
    margin = max(map(len, names))
    for number, row in enumerate(cells, start=1):
        print(f"-- row {number}")
        for name, cell in zip(names, row, strict=True):
            print(f"{name:>{margin}}  {cell}")


def _cell(value: Any) -> str:
    """A value as text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(_scalar(value)))


def _scalar(value: Any) -> Any:
    """A value for one CSV cell; lists and structs become JSON text, times ISO 8601."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(_json_value(value), ensure_ascii=False)
    if isinstance(value, int | float | str | Decimal | None):
        return value
    return _json_value(value)


def _json_value(value: Any) -> Any:
    """The JSON value: times in ISO 8601, bytes in hexadecimal, null for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): _json_value(one) for key, one in value.items()}
    if hasattr(value, "nanoseconds"):  # an interval, which Arrow hands out as a tuple
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:g}S"
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
