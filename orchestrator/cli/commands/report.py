"""`sft-sweep report`: write the HTML report of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import RunPath


def report(
    run: RunPath = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Left out: report.html in the run."),
    ] = None,
) -> int:
    r"""Write the report: the answer, figures, and how it was measured, in one file.

    \b
    Examples:
      sft-sweep report
      sft-sweep report runs/lowdata-20260131-142530 -o lowdata.html
    """
    from orchestrator.reading.report import write_report
    from orchestrator.recording.sweep_directory import find_run

    found = find_run(run)
    path = output or found.report
    write_report(found, path)
    print(path)
    return 0
