"""`sft-sweep launch`: run a sweep from a search-space file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import Address, Json, Overrides, Space

if TYPE_CHECKING:
    from orchestrator.cli.output.progress_view import ProgressView
    from orchestrator.planning.preparation import Prepared


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
    from orchestrator.planning.preparation import prepare_space, read_space
    from orchestrator.recording.stores import locate

    root = locate(out)
    search_space = read_space(space, overrides or [])
    if dry_run:
        from orchestrator.api.progress_lines import print_notes
        from orchestrator.cli.output import plans
        from orchestrator.recording.sweep_directory import check_root

        plans.check_room(search_space, space, address)
        prepared = prepare_space(search_space, path=space)
        check_root(root)
        print_notes(prepared)
        plans.show(prepared, as_json=json)
        return 0
    from orchestrator.api.sweeps import launch_sweep
    from orchestrator.cli.output import outcomes

    result = launch_sweep(search_space, path=space, root=root, address=address, viewing=_viewing)
    return outcomes.show(result, as_json=json)


@contextmanager
def _viewing(prepared: Prepared) -> Iterator[ProgressView]:
    """Tell what to know of the images, then show how far the sweep is."""
    from orchestrator.api.progress_lines import print_notes
    from orchestrator.cli.output.progress_view import ProgressView

    print_notes(prepared)
    with ProgressView(prepared.space) as view:
        yield view
