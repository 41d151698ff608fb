"""`sft-sweep doctor`: check this machine, a cluster or a store before a sweep."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import Address, Json
from orchestrator.errors import StorageError


def doctor(
    *,
    address: Address = None,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="DIR", help="Where sweep directories are made, or a store's URL."
        ),
    ] = "runs",
    json: Json = False,
) -> int:
    r"""Check this machine, a cluster, a store: versions, room, memory, GPUs, who may get in.

    \b
    Examples:
      sft-sweep doctor
      sft-sweep doctor --address 10.0.0.1:6379
      sft-sweep doctor --out s3://bucket/sweeps
    """
    from orchestrator.recording.stores import locate, work_folder
    from orchestrator.running import doctor as checks

    place = locate(out)
    if isinstance(place, Path):
        found = checks.check_machine(checks.gather(runs=place))
    else:
        found = checks.check_machine(checks.gather(runs=work_folder(place)))
        found.append(checks.check_store(place))
    if address is not None:
        from orchestrator.running.ray_tune.nodes import ask_nodes, own_versions

        found += checks.check_cluster(ask_nodes(address), own=own_versions())
    if json:
        print(jsonlib.dumps([asdict(check) for check in found]))
    else:
        width = max(len(check.what) for check in found)
        for check in found:
            print(f"{check.level.value:>7}  {check.what:<{width}}  {check.found}")
    stuck = any(check.level is checks.Level.PROBLEM for check in found)
    return StorageError.exit_code if stuck else 0
