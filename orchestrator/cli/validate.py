"""`sft-sweep validate`: check a search-space file before anything is spent."""

from __future__ import annotations

from orchestrator.cli.arguments import Json, Space


def validate(space: Space, *, json: Json = False) -> int:
    r"""Check a search-space file against its images and weights; list every problem.

    \b
    Example:
      sft-sweep validate search_spaces/lowdata.yaml
    """
    from orchestrator import sweep
    from orchestrator.cli import plans

    prepared = sweep.prepare(space)
    plans.tell_notes(prepared)
    plans.show(prepared, as_json=json)
    if not json:
        print(f"{space}: fine. Start it with: sft-sweep launch {space}")
    return 0
