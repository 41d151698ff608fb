"""`sft-sweep logs` and `stop`: what a sweep that was submitted says, and its end."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import JobAddress

if TYPE_CHECKING:  # ray is imported when a job is asked for
    from orchestrator.running.ray_tune.jobs import Jobs

JobId = Annotated[str, typer.Argument(metavar="JOB", help="What `submit` has printed.")]

LAST_LINES = 6
"""Of a log, shown when a job was stopped: the answer and how to go on are there."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: of one who follows no longer, and of a sweep that `stop` has ended."""


def logs(
    job: JobId,
    *,
    address: JobAddress,
    follow_it: Annotated[
        bool, typer.Option("--follow", help="Go on until the sweep ends, and end as it ends.")
    ] = False,
) -> int:
    r"""Show what a submitted sweep has said.

    \b
    Examples:
      sft-sweep logs pets-1a2b3c4d --address http://10.0.0.1:8265
      sft-sweep logs pets-1a2b3c4d --address http://10.0.0.1:8265 --follow
    """
    from orchestrator.running.ray_tune.jobs import Jobs

    jobs = Jobs(address)
    if follow_it:
        return follow(jobs, job)
    print(jobs.log(job), end="")
    return 0


def stop(job: JobId, *, address: JobAddress) -> int:
    r"""End a submitted sweep cleanly: tables are written, and it can be resumed.

    \b
    Example:
      sft-sweep stop pets-1a2b3c4d --address http://10.0.0.1:8265
    """
    from orchestrator.running.ray_tune.jobs import Jobs

    jobs = Jobs(address)
    state = jobs.stop(job)
    log = jobs.log(job)
    print("\n".join(log.splitlines()[-LAST_LINES:]), file=sys.stderr)
    print(f"{job}: {state.status}")
    if (run := run_to_resume(log)) is not None:
        print(f"Go on with: sft-sweep submit --resume {run} --address {address}")
    return 0


def run_to_resume(log: str) -> str | None:
    """The run that a job's log says to resume, as it stands in a command; None where it does not.

    The program within the cluster knows only of `resume`, which is for those who are there.
    """
    told = re.findall(r"sft-sweep resume (.+)$", log, re.MULTILINE)
    return str(told[-1]) if told else None


def follow(jobs: Jobs, job_id: str) -> int:
    """Print what a job prints until it ends; the exit code of its sweep."""
    try:
        for text in jobs.follow(job_id):
            print(text, end="", flush=True)
        state = jobs.state(job_id)
    except KeyboardInterrupt:
        print(jobs.goes_on(job_id), file=sys.stderr)
        return INTERRUPTED
    if state.exit_code is None:
        print(f"{job_id}: {state.status} {state.message}", file=sys.stderr)
        return {"SUCCEEDED": 0, "STOPPED": TERMINATED}.get(state.status, 1)
    return state.exit_code
