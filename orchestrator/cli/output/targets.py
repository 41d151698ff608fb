"""The output of `leaderboard --target`: the labels needed for a target test score."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.output.escaping import markdown_cell
from orchestrator.methods import Method
from orchestrator.text import metric_name, percent, plural, printable

if TYPE_CHECKING:
    from orchestrator.reading.labels_needed import LabelsNeeded
    from orchestrator.reading.loading import LoadedRun


def find(runs: Sequence[LoadedRun], target: float) -> list[LabelsNeeded]:
    """The labels needed for a target, per sweep and method; prints a note for sweeps without any.

    Args:
        runs: the sweeps.
        target: target test score, in 0..1.
    """
    from orchestrator.reading.labels_needed import find_labels_needed

    found = []
    for run in runs:
        answers = find_labels_needed(
            run.sweep_id,
            run.leaderboard.to_pylist(),
            run.finals,
            run.predictions,
            target=target,
        )
        if not answers:
            print(
                f"{printable(run.sweep_id)}: the labels needed are open: nothing was scored on the "
                "test set yet",
                file=sys.stderr,
            )
        found += answers
    return found


def print_lines(found: Sequence[LabelsNeeded], *, markdown: bool = False) -> None:
    """Print one line per sweep and method on stdout.

    Args:
        found: what `find` returned.
        markdown: print a Markdown list after a blank line.
    """
    several = len({one.sweep_id for one in found}) > 1
    if found and markdown:
        print()
    for one in found:
        by = "fine-tuning" if one.method == Method.FINETUNE else "a linear probe"
        sweep = f"{one.sweep_id}: " if several else ""
        basis = (
            f"{plural(len(one.per_repeat), 'repeat')}, {plural(one.num_images, 'test image')}, "
            f"{plural(len(one.curve), 'budget')}"
        )
        score = f"{percent(one.target)} % {metric_name(one.metric)}"
        line = f"{sweep}{score} by {by}: {one.text}; {basis}"
        print(f"- {markdown_cell(line)}" if markdown else printable(line))
