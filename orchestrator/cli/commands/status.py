"""`sft-sweep status`: show the progress and the failures of a sweep."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict

from orchestrator.cli.arguments import Json, RunPath


def status(run: RunPath = None, *, json: Json = False) -> int:
    r"""Show a sweep's progress, whether it is running, and the reason of every failure and loss.

    \b
    Examples:
      sft-sweep status
      sft-sweep status runs/lowdata-20260131-142530 --json
    """
    from orchestrator.cli.output.progress_view import progress_table
    from orchestrator.cli.output.render import print_rich
    from orchestrator.reading import status
    from orchestrator.recording.state import SweepState
    from orchestrator.recording.sweep_directory import find_run
    from orchestrator.text import printable_lines

    found = find_run(run)
    seen = status.inspect(found)
    if json:
        data = {
            "run": found.given,
            "state": seen.state.value,
            "studies": [asdict(study) for study in seen.progress],
            "failures": seen.failures,
            "losses": seen.losses,
        }
        print(jsonlib.dumps(data))
        return 0
    print(f"{found.given}: {seen.state.value}")
    print_rich(progress_table(seen.progress, seen.objective))
    for trial_id, reason in seen.failures.items():
        print(printable_lines(f"{trial_id}: {reason}"))
    for trial_id, reason in seen.losses.items():
        print(printable_lines(f"{trial_id}: not settled; its newest process was lost: {reason}"))
    if seen.state is SweepState.UNFINISHED:
        print(f"Go on with: sft-sweep resume {found.argument}")
    return 0
