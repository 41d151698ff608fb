"""`sft-sweep export`: train a configuration again and write it to a folder."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import Json, RunPath

LINE_EVERY_S = 5.0
"""Shortest time between two progress lines, in seconds."""


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
    from orchestrator.reading import export as exporting
    from orchestrator.recording.sweep_directory import find_run
    from orchestrator.text import plain

    found = find_run(run)
    print(f"exporting from {plain(str(found.path))}", file=sys.stderr, flush=True)
    done = exporting.export(
        found,
        out=out,
        listener=exporting.Listener(tell=_print_line, watch=_Watch()),
        trial_id=trial,
        budget=budget,
        labels=exporting.Labels(labels.value),
        repeat=repeat,
    )
    for note in done.notes:
        _print_line(f"mind: {note}")
    if json:
        print(jsonlib.dumps(done.to_json()))
        return 0
    print(f"{plain(str(done.folder))}: {', '.join(done.files)}")
    print(f"Use it with: sft-sweep predict {plain(shlex.quote(str(done.folder)))} IMAGE...")
    return 0


def _print_line(line: str) -> None:
    from orchestrator.text import plain

    print(plain(line), file=sys.stderr, flush=True)


class _Watch:
    """Prints the number of updates done, at most every `LINE_EVERY_S` seconds."""

    def __init__(self) -> None:
        self._next_line = time.monotonic() + LINE_EVERY_S

    def __call__(self, step: int, steps: int) -> None:
        if time.monotonic() >= self._next_line:
            _print_line(f"training: {step} of {steps} updates")
            self._next_line = time.monotonic() + LINE_EVERY_S
