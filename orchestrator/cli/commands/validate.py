"""`sft-sweep validate`: check a search-space file without running it."""

from __future__ import annotations

import shlex

from orchestrator.cli.arguments import Address, Json, Overrides, Space


def validate(
    space: Space, *, address: Address = None, overrides: Overrides = None, json: Json = False
) -> int:
    r"""Check a search-space file against its images, weights and machine; list every problem.

    \b
    Examples:
      sft-sweep validate search_spaces/lowdata.yaml
      sft-sweep validate search_spaces/lowdata.yaml --address 10.0.0.1:6379
    """
    from orchestrator.api.progress_lines import print_notes
    from orchestrator.cli.output import plans
    from orchestrator.planning.preparation import prepare_space, read_space

    search_space = read_space(space, overrides or [])
    plans.check_room(search_space, space, address)
    prepared = prepare_space(search_space, path=space)
    print_notes(prepared)
    plans.show(prepared, as_json=json)
    if not json:
        given = [] if address is None else ["--address", address]
        given += [part for override in overrides or [] for part in ("--set", override)]
        print(f"{space}: fine. Start it with: sft-sweep launch {shlex.join([str(space), *given])}")
    return 0
