"""`sft-sweep leaderboard`: the best configurations of every label budget."""

from __future__ import annotations

import csv
import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments import Json
from orchestrator.cli.render import number
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.testset import TestSet

DEFAULT_TOP = 3
"""Ranked rows shown for each budget, finalists beyond them not counted."""

WIDE = 150
"""Columns of a terminal from which the table is shown whole."""

Row = dict[str, Any]


def leaderboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...", help="Sweep directories; left out, the newest in runs/."
        ),
    ] = None,
    *,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Only this many labels per class.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Ranked rows for each budget.")
    ] = DEFAULT_TOP,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> int:
    r"""Show the best configurations: validation score, test score with interval, and ties.

    \b
    Examples:
      sft-sweep leaderboard
      sft-sweep leaderboard --budget 5 --top 10
      sft-sweep leaderboard runs/one runs/two --csv
    """
    from orchestrator.runs import find_run
    from orchestrator.tables import read_table

    if json + as_csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown: give one of them at most")
    rows: list[Row] = []
    test_sets: list[TestSet | None] = []
    paths: Sequence[Path | None] = runs or [None]
    for found in [find_run(path) for path in paths]:
        sweep_id = found.sweep_id
        table = read_table(found.path, "leaderboard").to_pylist()
        rows += [{"sweep_id": sweep_id, **row} for row in table]
        if not (json or as_csv or markdown):
            test_sets.append(read_test_set(found.path))
    if budget is not None:
        known = sorted({row["label_budget"] for row in rows})
        rows = [row for row in rows if row["label_budget"] == budget]
        if not rows and known:
            raise UsageError(
                f"--budget {budget:g}: not in this sweep; allowed: "
                + ", ".join(f"{value:g}" for value in known)
            )
    rows = [row for row in rows if shown(row, top)]
    if json:
        print(jsonlib.dumps(rows))
    elif as_csv:
        _print_csv(rows)
    elif markdown:
        _print_markdown(rows)
    else:
        print_table(rows, top=top, test_sets=test_sets)
    return 0


def read_test_set(directory: Path) -> TestSet | None:
    """What the test set of a sweep can tell; None where nothing was scored on it yet."""
    from orchestrator.tables import read_table
    from orchestrator.testset import find_test_set

    return find_test_set(read_table(directory, "trials"), read_table(directory, "predictions"))


def shown(row: Row, top: int) -> bool:
    """Whether a row is among the top, was scored on the test set, or is a baseline."""
    return row["rank"] is None or row["rank"] <= top or row["test_accuracy"] is not None


def print_table(rows: Sequence[Row], *, top: int, test_sets: Sequence[TestSet | None] = ()) -> None:
    """Print rows of the leaderboard as a table on stdout, between what it takes to read them.

    Args:
        rows: of one sweep or several.
        top: ranked rows shown for each budget.
        test_sets: of each of the sweeps, where they are known.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import JustifyMethod
    from rich.table import Table

    from orchestrator.cli.render import output_width, print_rich

    several = len({row.get("sweep_id") for row in rows}) > 1
    left_out = set(_DISPENSABLE) if output_width() < WIDE else set()
    if all(row["val_objective"] == row["val_accuracy"] for row in rows):
        left_out.add("objective")
    known = list(dict.fromkeys(test_set for test_set in test_sets if test_set is not None))
    for test_set in known:
        print(test_set.text)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ["sweep"] * several + [name for name in _CELLS if name not in left_out]:
        justify: JustifyMethod = "left" if name in _LEFT else "right"
        table.add_column(name, justify=justify, no_wrap="%" in name or name == "to rank 1")
    previous = None
    for row in rows:
        if not shown(row, top):
            continue
        place = (row.get("sweep_id"), row["label_budget"])
        if previous not in (None, place):
            table.add_section()
        previous = place
        shown_cells = [
            cell for name, cell in zip(_CELLS, cells(row), strict=True) if name not in left_out
        ]
        table.add_row(*[plain(str(row.get("sweep_id")))] * several, *shown_cells)
    print_rich(table)
    if known:
        images = " or ".join(str(test_set.num_images) for test_set in known)
        print(
            "val % of a winner is optimistic: it is the best of many; test % is not.\n"
            f"tied: cannot be told apart from rank 1 with {images} test images."
        )


def cells(row: Row) -> list[str]:
    """One row as people read it."""
    return [plain(make(row)) for make in _CELLS.values()]


def plain(text: str) -> str:
    """Text from outside, without what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _interval(row: Row, middle: str, low: str, high: str, *, sign: str = "") -> str:
    if row[middle] is None:
        return ""
    mean, bottom, top = (100 * row[name] for name in (middle, low, high))
    return f"{mean:{sign}.1f} ({bottom:{sign}.1f} to {top:{sign}.1f})"


def _tied(row: Row) -> str:
    if row["tied_with_best"] is None or row["rank"] == 1:
        return ""
    return "tied" if row["tied_with_best"] else "differs"


_CELLS = {
    "labels": lambda row: f"{row['label_budget']:g}",
    "rank": lambda row: "" if row["rank"] is None else str(row["rank"]),
    "trial": lambda row: row["trial_id"],
    "method": lambda row: row["method"],
    "backbone": lambda row: row["backbone"] or "",
    "depth": lambda row: "" if row["freeze_depth"] is None else f"{row['freeze_depth']:.2g}",
    "lr": lambda row: "" if row["lr"] is None else f"{row['lr']:.2g}",
    "objective": lambda row: number(row["val_objective"]),
    "val %": lambda row: "" if row["val_accuracy"] is None else f"{100 * row['val_accuracy']:.1f}",
    "val n": lambda row: "" if row["num_val"] is None else str(row["num_val"]),
    "test % (95 %)": lambda row: _interval(row, "test_accuracy", "test_ci_low", "test_ci_high"),
    "to rank 1": lambda row: (
        ""
        if row["rank"] == 1
        else _interval(row, "diff_to_best", "diff_ci_low", "diff_ci_high", sign="+")
    ),
    "": _tied,
}
_DISPENSABLE = {"trial", "val n"}
_LEFT = {"sweep", "trial", "method", "backbone", ""}


def _print_csv(rows: Sequence[Row]) -> None:
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_cell(value) for key, value in row.items()} for row in rows)


def _csv_cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets a leading quote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _print_markdown(rows: Sequence[Row]) -> None:
    print("| " + " | ".join(_CELLS) + " |")
    print("|" + " --- |" * len(_CELLS))
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |")
