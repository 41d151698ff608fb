"""`sft-sweep resume`: finish an interrupted sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.arguments import Address, Json, RunPath


def resume(
    run: RunPath = None,
    *,
    address: Address = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Go on although versions of packages are other ones now."
        ),
    ] = False,
    json: Json = False,
) -> int:
    r"""Do what is missing of a sweep; finished trials are kept.

    \b
    Examples:
      sft-sweep resume
      sft-sweep resume runs/lowdata-20260131-142530
      sft-sweep resume s3://bucket/sweeps/lowdata-20260131-142530
      sft-sweep resume --accept-changes
    """
    from orchestrator.api.sweeps import resume_sweep
    from orchestrator.cli.output import outcomes
    from orchestrator.cli.output.progress_view import ProgressView
    from orchestrator.recording.sweep_directory import find_run
    from orchestrator.space import load_space

    found = find_run(run, resuming=True)
    with ProgressView(load_space(found.space)) as view:
        result = resume_sweep(found, address=address, view=view, accept_changes=accept_changes)
    return outcomes.show(result, as_json=json)
