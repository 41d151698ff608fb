"""`sft-sweep query`: run SQL over the tables of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import Runs
from orchestrator.errors import UsageError


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads.")],
    runs: Runs = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write there instead of on stdout: .csv, .json or .parquet.",
        ),
    ] = None,
) -> int:
    r"""Ask the tables trials, curves, finals, predictions and leaderboard in SQL (DuckDB's).

    Several sweeps make one table of each name; every row has its sweep_id. A statement reaches
    these tables and nothing else. `DESCRIBE trials` lists the columns of one.

    \b
    Examples:
      sft-sweep query "SELECT state, count(*) FROM trials GROUP BY state"
      sft-sweep query "FROM leaderboard WHERE rank = 1" runs/one runs/two --csv
      sft-sweep query "FROM predictions WHERE label <> predicted" -o errors.parquet
    """
    from orchestrator.cli.output.query_output import Form, form_of, write
    from orchestrator.reading.loading import load_runs
    from orchestrator.reading.query import query as ask

    flags = {Form.CSV: as_csv, Form.JSON: json, Form.PARQUET: parquet}
    chosen = [form for form, given in flags.items() if given]
    if len(chosen) > 1:
        raise UsageError("--csv, --json and --parquet: give one of them at most")
    form = form_of(chosen[0] if chosen else None, out)
    with ask(sql, load_runs(runs or [])) as result:
        write(result, form, out)
    return 0
