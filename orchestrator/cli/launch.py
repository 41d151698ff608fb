"""`sft-sweep launch`: run a sweep from a search-space file."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.arguments import Address, Json, Overrides, Space


def launch(
    space: Space,
    *,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="DIR", help="Where the sweep's directory is made, or a URL: s3://..."
        ),
    ] = "runs",
    address: Address = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; run nothing.")
    ] = False,
    json: Json = False,
) -> int:
    r"""Run a sweep: trials, finalists, baselines, tables, and the answer.

    \b
    Examples:
      sft-sweep launch search_spaces/lowdata.yaml
      sft-sweep launch search_spaces/lowdata.yaml --set trials=8 --set seed=1
      sft-sweep launch search_spaces/lowdata.yaml --out s3://bucket/sweeps
      sft-sweep launch search_spaces/lowdata.yaml --dry-run
    """
    from orchestrator import sweep
    from orchestrator.cli import outcomes, plans
    from orchestrator.cli.view import ProgressView
    from orchestrator.preparation import prepare
    from orchestrator.runs import check_root
    from orchestrator.stores import locate

    root = locate(out)
    prepared = prepare(space, overrides=overrides or [])
    check_root(root)
    plans.tell_notes(prepared)
    if dry_run:
        plans.show(prepared, as_json=json)
        return 0
    with ProgressView(prepared.space) as view:
        outcome = sweep.launch(prepared, root=root, address=address or "local", view=view)
    return outcomes.show(outcome, as_json=json)
