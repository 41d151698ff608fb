"""`sft-sweep export`: train a configuration again and write it to a folder."""

from __future__ import annotations

import json as jsonlib
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import Json, RunPath


class LabelsOption(StrEnum):
    """The values of `orchestrator.reading.export.Labels`, which is slow to import."""

    ALL = "all"
    BUDGET = "budget"
    EVERYTHING = "everything"


def export(
    run: RunPath = None,
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where to write; new or empty.")
    ],
    trial: Annotated[
        str | None, typer.Option("--trial", metavar="ID", help="Which trial, such as b5-0007.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="N",
            help="The best at so many labels per class; left out, at the largest budget.",
        ),
    ] = None,
    labels: Annotated[
        LabelsOption,
        typer.Option(
            "--labels",
            help=(
                "What it learns from: all labels outside the test split; those of its budget, as "
                "its finalist did; or everything, the test split included."
            ),
        ),
    ] = LabelsOption.ALL,
    repeat: Annotated[
        int, typer.Option("--repeat", min=0, help="Which draw of labels and training seed.")
    ] = 0,
    json: Json = False,
) -> int:
    r"""Train the best configuration once more and write it down: weights, ONNX, a model card.

    \b
    Examples:
      sft-sweep export -o model
      sft-sweep export runs/lowdata-20260131-142530 --budget 5 -o model
      sft-sweep export --trial b5-0007 --labels budget -o model
    """
    from orchestrator.api import exporting
    from orchestrator.text import printable

    done = exporting.export(
        run, out, trial=trial, budget=budget, labels=labels.value, repeat=repeat
    )
    if json:
        print(jsonlib.dumps(done.to_json()))
        return 0
    print(f"{printable(str(done.folder))}: {', '.join(done.files)}")
    folder = printable(shlex.quote(str(done.folder)))
    print(f"Use it with: sft-sweep predict {folder} {done.usage}")
    return 0
