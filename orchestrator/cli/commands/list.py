"""`sft-sweep list`: list the sweeps of a directory or store."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated

import typer

from orchestrator.cli.arguments import Json
from orchestrator.errors import SweepError


def list_runs(
    *,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where sweep directories lie, or a URL.")
    ] = "runs",
    json: Json = False,
) -> int:
    r"""List the sweeps, oldest first.

    \b
    Example:
      sft-sweep list
    """
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich
    from orchestrator.reading import status
    from orchestrator.recording.stores import locate
    from orchestrator.recording.sweep_directory import find_runs
    from orchestrator.text import printable, printable_lines

    rows = []
    for run in find_runs(locate(out)):
        try:
            created_at = str(run.read_manifest().get("created_at", ""))
            seen = status.inspect(run)
        except SweepError as error:
            print(printable_lines(str(error)), file=sys.stderr)
            continue
        rows.append(
            {
                "run": run.given,
                "state": seen.state.value,
                "settled": sum(study.settled for study in seen.progress),
                "trials": sum(study.total for study in seen.progress),
                "failed": len(seen.failures),
                "created_at": created_at,
            }
        )
    if json:
        print(jsonlib.dumps(rows))
    elif not rows:
        print(f"{out}: no sweep here; start one with: sft-sweep launch SPACE")
    else:
        table = Table("run", "state", "settled", "failed", "created (UTC)")
        for row in rows:
            table.add_row(
                printable(str(row["run"])),
                str(row["state"]),
                f"{row['settled']}/{row['trials']}",
                str(row["failed"]),
                printable(str(row["created_at"])[:19].replace("T", " ")),
            )
        print_rich(table)
    return 0
