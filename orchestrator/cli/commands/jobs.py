"""`sft-sweep logs` and `stop`: print the log of a submitted sweep, and end it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import JobAddress

if TYPE_CHECKING:  # ray is slow to import
    from orchestrator.running.ray_tune.jobs import Jobs

JobId = Annotated[str, typer.Argument(metavar="JOB", help="What `submit` has printed.")]

LAST_LINES = 6
"""Log lines shown after a job was stopped; they contain the answer and the resume command."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of an interrupted `--follow`, and of a sweep that `stop` has ended."""


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
    """The run that a job's log names as resumable, shell-quoted as in the log; None without one.

    The log prints a `sft-sweep resume` command, which works only on the cluster; the caller turns
    it into a `submit --resume` command.
    """
    commands = re.findall(r"sft-sweep resume (.+)$", log, re.MULTILINE)
    return str(commands[-1]) if commands else None


def follow(jobs: Jobs, job_id: str) -> int:
    """Print a job's output until it ends; return the exit code of its sweep.

    Ctrl-C ends the printing but not the job; the code is then `INTERRUPTED`.
    """
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
