"""One SQL statement over the tables of sweeps, by DuckDB in a sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import pyarrow as pa

from orchestrator.errors import UsageError
from orchestrator.reading.loading import LoadedRun
from orchestrator.recording.table_schemas import SCHEMAS

T = TypeVar("T")

BATCH_ROWS = 10_000
"""Number of rows of a result that are in memory at once."""

_SANDBOX = {
    # Statements cannot access files, the network, other databases or extensions ...
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    # ... nor this program's variables, which DuckDB would read as tables.
    "python_enable_replacements": False,
    # A larger result is an error: nothing is spilled to disk.
    "memory_limit": "50%",
    "temp_directory": "",
}
_ALLOWED = ("SELECT", "EXPLAIN", "MULTI")  # a PIVOT is several statements to DuckDB
_WRONG_NAME_OR_GRAMMAR = (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException)


@dataclass(frozen=True)
class QueryResult:
    """The streamed result of a statement.

    Attributes:
        schema: names and types of the columns; names are unique.
        batches: the rows, in order; can be read once.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@contextmanager
def query(sql: str, runs: Sequence[LoadedRun]) -> Iterator[QueryResult]:
    """Run one statement over the tables of one sweep or several.

    The tables have their usual names and the rows of all sweeps; the first column is sweep_id. The
    result is streamed, so that its size is not limited by memory. An interrupt of the main thread
    (Ctrl-C) ends the statement at any point.

    Args:
        sql: one statement that only reads.
        runs: distinct sweeps, at least one.

    Yields:
        The result, which is valid within the `with` block.

    Raises:
        UsageError: DuckDB refuses or fails, also while the batches are read. The message is
            DuckDB's, with the tables and columns that exist if a name was wrong.
    """
    tables = _union(sql, runs)
    connection = duckdb.connect(":memory:", config=_SANDBOX)
    with ThreadPoolExecutor(max_workers=1) as worker:

        def wait(step: Callable[[], T]) -> T:
            # DuckDB does not handle signals while it reads a result, but this thread does.
            return worker.submit(step).result()

        try:
            with _as_usage_errors(tables):
                for name, table in tables.items():
                    connection.register(name, table)
                connection.execute("SET TimeZone = 'UTC'")  # the time zone of the tables
                connection.execute("SET lock_configuration = true")
                statement = _only_statement(connection, sql)
                reader = wait(lambda: connection.sql(statement).to_arrow_reader(BATCH_ROWS))
            schema = pa.schema(
                [
                    column.with_name(name)
                    for column, name in zip(
                        reader.schema, _distinct(reader.schema.names), strict=True
                    )
                ]
            )

            def batches() -> Iterator[pa.RecordBatch]:
                while True:
                    with _as_usage_errors(tables):
                        batch = wait(lambda: next(reader, None))
                    if batch is None:
                        return
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

            yield QueryResult(schema, batches())
        finally:
            connection.interrupt()
            worker.shutdown()
            connection.close()


def _union(sql: str, runs: Sequence[LoadedRun]) -> dict[str, pa.Table]:
    """Return all tables by name; those that the statement cannot use are left empty."""
    text = sql.lower()
    # query() and query_table() take text that can be concatenated from parts.
    read = {name for name in SCHEMAS if name in text or "query" in text}
    tables = {}
    for name, schema in SCHEMAS.items():
        parts = [
            run.table(name) if name in read else schema.empty_table() for run in runs
        ]  # fmt: skip
        if "sweep_id" not in schema.names:
            parts = [
                part.add_column(0, "sweep_id", pa.repeat(run.sweep_id, part.num_rows))
                for part, run in zip(parts, runs, strict=True)
            ]
        tables[name] = pa.concat_tables(parts)
    return tables


def _only_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the single statement of `sql` if it only reads."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError(f"query: got {len(statements)} statements; exactly one is allowed")
    (statement,) = statements
    if statement.type.name not in _ALLOWED:
        raise UsageError(
            f"query: got a statement of type {statement.type.name}; allowed is what reads: SELECT, "
            "FROM, WITH, VALUES, PIVOT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN"
        )
    return str(statement.query)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return `names` with numbers appended to duplicates, as `SELECT *` over a join yields them."""
    taken = set(names)
    found: dict[str, None] = {}
    for name in names:
        new, number = name, 0
        while new in found or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        found[new] = None
    return list(found)


@contextmanager
def _as_usage_errors(tables: Mapping[str, pa.Table]) -> Iterator[None]:
    """Turn DuckDB's errors into a `UsageError` with an explanation.

    Errors while a result is read are OSErrors with the same text.
    """
    try:
        yield
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        message = str(error).strip()
        if "Out of Memory Error" in message:
            first = re.sub(r"^Out of Memory Error: ", "", message.splitlines()[0])
            raise UsageError(
                f"query: it takes more memory than half of this machine's ({first}); filter, group "
                "or limit the rows earlier in it"
            ) from error
        if isinstance(error, _WRONG_NAME_OR_GRAMMAR):
            names = (f"  {name}: {', '.join(table.column_names)}" for name, table in tables.items())
            message += "\nThe tables and their columns:\n" + "\n".join(names)
        if isinstance(error, duckdb.PermissionException):
            message += "\nA query reads the tables of sweeps and nothing else: " + ", ".join(tables)
        raise UsageError(f"query: {message}") from error
