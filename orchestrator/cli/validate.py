"""`sft-sweep validate`: check a search-space file before anything is spent."""

from __future__ import annotations

import shlex

from orchestrator.cli.arguments import Json, Overrides, Space


def validate(space: Space, *, overrides: Overrides = None, json: Json = False) -> int:
    r"""Check a search-space file against its images and weights; list every problem.

    \b
    Example:
      sft-sweep validate search_spaces/lowdata.yaml
    """
    from orchestrator.cli import plans
    from orchestrator.preparation import prepare

    prepared = prepare(space, overrides=overrides or [])
    plans.tell_notes(prepared)
    plans.show(prepared, as_json=json)
    if not json:
        given = [part for override in overrides or [] for part in ("--set", override)]
        print(f"{space}: fine. Start it with: sft-sweep launch {shlex.join([str(space), *given])}")
    return 0
