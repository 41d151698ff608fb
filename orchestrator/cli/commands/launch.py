"""`sft-sweep launch`: run a sweep from a search-space file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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
    from orchestrator.cli.output import outcomes, plans
    from orchestrator.planning.preparation import prepare_space, read_space
    from orchestrator.recording.stores import locate
    from orchestrator.recording.sweep_directory import check_root

    root = locate(out)
    search_space = read_space(space, overrides or [])
    preparing = partial(prepare_space, search_space, path=space)
    if dry_run:
        plans.check_room(search_space, space, address)
        prepared = preparing()
        check_root(root)
        plans.tell_notes(prepared)
        plans.show(prepared, as_json=json)
        return 0
    from orchestrator.reading.outcome import conclude
    from orchestrator.running import launch

    with launch.launch(
        search_space, preparing=preparing, root=root, address=address or "local", viewing=_viewing
    ) as ended:
        outcome = conclude(ended.run, images=ended.images, interrupted=ended.signal is not None)
    return outcomes.show(outcome, ended, as_json=json)


@contextmanager
def _viewing(prepared: Prepared) -> Iterator[ProgressView]:
    """Print the notes of a prepared sweep, then show its progress within the block."""
    from orchestrator.cli.output import plans
    from orchestrator.cli.output.progress_view import ProgressView

    plans.tell_notes(prepared)
    with ProgressView(prepared.space) as view:
        yield view
