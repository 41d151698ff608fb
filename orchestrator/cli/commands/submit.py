"""`sft-sweep submit`: run a sweep as a job of a Ray cluster, independent of this machine."""

from __future__ import annotations

import json as jsonlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import JobAddress, Json, Overrides
from orchestrator.cli.commands.jobs import follow as follow_job
from orchestrator.errors import UsageError

if TYPE_CHECKING:  # ray is slow to import
    from orchestrator.running.ray_tune.jobs import Jobs


def submit(
    space: Annotated[
        Path | None, typer.Argument(metavar="SPACE", help="A search-space file.")
    ] = None,
    *,
    address: JobAddress,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where the sweep's directory is made: an absolute path on the head of the "
            "cluster, or an address such as s3://bucket/sweeps.",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Instead of SPACE: finish this sweep of the cluster."
        ),
    ] = None,
    overrides: Overrides = None,
    ship_code: Annotated[
        bool,
        typer.Option(
            "--ship-code",
            help="Send this program too, and let the cluster install what it needs but Ray.",
        ),
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show what the sweep says, and end as it ends.")
    ] = False,
    json: Json = False,
) -> int:
    r"""Send a sweep to a Ray cluster as a job; it goes on when this machine goes.

    What the file names by relative paths (images, weights, code) travels with it; absolute paths
    are those of the cluster.

    \b
    Examples:
      sft-sweep submit pets.yaml --address http://10.0.0.1:8265 --out /shared/runs --follow
      sft-sweep submit --resume /shared/runs/pets-20260131-142530 --address http://10.0.0.1:8265
    """
    if (space is None) == (resume is None):
        raise UsageError("submit: give either a search-space file or --resume RUN")
    from orchestrator.planning.job_files import SPACE_NAME, stage_job_files

    if space is None:
        arguments, name = ["resume", _check_cluster_path("--resume", resume)], "resume"
    else:
        arguments, name = ["launch", SPACE_NAME, "--out", _check_cluster_path("--out", out)], ""
        arguments += [part for override in overrides or [] for part in ("--set", override)]

    from orchestrator.running.ray_tune.jobs import Jobs, entrypoint_of, new_job_id
    from orchestrator.space import load_space
    from trainable import backbones as registry

    with tempfile.TemporaryDirectory(prefix="sft-sweep-") as folder:
        job_folder = Path(folder)
        if space is not None:
            checked = load_space(space, overrides or [], registry=registry)
            name = checked.name
            stage_job_files(checked, space, job_folder)
        jobs = Jobs(address)
        job_id = new_job_id(name)
        jobs.submit(
            job_id=job_id,
            entrypoint=entrypoint_of(arguments, ship_code=ship_code),
            folder=None if space is None else job_folder,
            ship_code=ship_code,
        )
    return _print_job(jobs, job_id, address, follow_it=follow, as_json=json)


def _print_job(jobs: Jobs, job_id: str, address: str, *, follow_it: bool, as_json: bool) -> int:
    """Print the commands for the job, and follow it if asked to; return the exit code."""
    if as_json:
        print(jsonlib.dumps({"job_id": job_id, "address": address}), flush=True)
    stream = sys.stderr if as_json or follow_it else sys.stdout
    for command in ("logs", "stop"):
        print(f"sft-sweep {command} {job_id} --address {address}", file=stream, flush=True)
    return follow_job(jobs, job_id) if follow_it else 0


def _check_cluster_path(option: str, path: str | None) -> str:
    """The path, if it is absolute or a URL.

    A relative path would lie in the job's own folder, which is deleted with the job.

    Args:
        option: option that gave the path, for the message.
        path: the path; None if the option is missing.

    Raises:
        UsageError: the path is relative or missing.
    """
    if path is None or not (path.startswith("/") or "://" in path):
        raise UsageError(
            f"{option} {path or 'is missing'}: the job's own folder is deleted with it; give an "
            "absolute path on the cluster, such as /shared/runs, or an address such as "
            "s3://bucket/sweeps"
        )
    return path
