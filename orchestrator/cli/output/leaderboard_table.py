"""Printing of leaderboard rows as a table, CSV or Markdown."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.cli.output.escaping import csv_cell, markdown_cell
from orchestrator.cli.output.render import data_stdout, output_width, print_rich
from orchestrator.reading.phrases import collapses
from orchestrator.text import (
    metric_name,
    noun_of,
    number,
    percent,
    printable,
    score,
    score_column,
    score_difference,
    tie,
    val_share,
)

if TYPE_CHECKING:
    from orchestrator.datasets.test_set import TestSet

Row = Mapping[str, Any]


def visible(rows: Iterable[Row], top: int) -> list[Row]:
    """The rows to show: the `top` ranked ones of each study, and all rows with a test score.

    Rows without a rank (raw pixels) are always shown.

    Args:
        rows: leaderboard rows of one sweep or several, in order of rank.
        top: ranked rows per sweep and study.
    """
    seen: dict[tuple[Any, Any], int] = {}
    kept = []
    for row in rows:
        group = row.get("sweep_id"), row["study"]
        if row["rank"] is not None:
            seen[group] = seen.get(group, 0) + 1
        if row["rank"] is None or seen[group] <= top or row["test_score"] is not None:
            kept.append(row)
    return kept


def print_table(rows: Sequence[Row], *, top: int, test_sets: Sequence[TestSet | None] = ()) -> None:
    """Print leaderboard rows on stdout as a table, with a note on the test set and a legend.

    On a terminal that is too narrow, the columns of `_DISPENSABLE` are left out.

    Args:
        rows: leaderboard rows of one sweep or several.
        top: ranked rows per sweep and study.
        test_sets: test set of each sweep, or None if it is unknown.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import JustifyMethod
    from rich.table import Table

    rows = visible(rows, top)
    names = _columns(rows)
    if all(row["val_objective"] == val_share(row) for row in rows):
        names.remove("objective")
    heads = _heads(rows)
    lines = [{name: printable(text) for name, text in cells(row).items()} for row in rows]
    for name in [name for name in _DISPENSABLE if name in names]:
        if sys.stdout.isatty() and _width(names, [heads, *lines]) > output_width():
            names.remove(name)
    known = list(dict.fromkeys(test_set for test_set in test_sets if test_set is not None))
    for test_set in known:
        print(test_set.described(noun_of(rows[0])))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in names:
        justify: JustifyMethod = "left" if name in _LEFT else "right"
        table.add_column(heads[name], justify=justify, overflow="fold", no_wrap=name == "test")
    previous = None
    for row, line in zip(rows, lines, strict=True):
        group = (row.get("sweep_id"), row["study"])
        if previous not in (None, group):
            table.add_section()
        previous = group
        table.add_row(*(line[name] for name in names))
    print_rich(table, width=_width(names, [heads, *lines]))
    if known:
        if "gain" in names:
            print("gain: what training added to the validation score that it started from.")
        print("val % of a winner is optimistic: it is the best of many; a test score is not.")
        for row in rows:
            for clause in collapses(row):
                print(f"{row['trial_id']}: {clause}.")
        images = " or ".join(str(test_set.num_images) for test_set in known)
        print(f"tied: cannot be told apart from rank 1 with {images} test {noun_of(rows[0])}s.")


def cells(row: Row) -> dict[str, str]:
    """The formatted cells of a row, by column name."""
    return {name: make(row) for name, make in _CELLS.items()}


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns to show; those that are empty or equal in all rows are left out."""
    names = [*_CELLS]
    for name, column in (("sweep", "sweep_id"), ("metric", "metric")):
        if len({row.get(column) for row in rows}) <= 1:
            names.remove(name)
    if all(row["gain_over_start"] is None for row in rows):
        names.remove("gain")
    return names


def _heads(rows: Sequence[Row]) -> dict[str, str]:
    """The heading of each column; with several metrics, that of test scores names none."""
    metrics = {row["metric"] for row in rows}
    test = score_column(*metrics) if len(metrics) == 1 else "test"
    return {name: name for name in _CELLS} | {"test": f"{test} (95 %)"}


def _width(names: Sequence[str], lines: Sequence[Mapping[str, str]]) -> int:
    """Terminal columns that the table needs without folding a cell."""
    from rich.cells import cell_len

    return sum(max(cell_len(line[name]) for line in lines) + 2 for name in names)


def _budget(row: Row) -> str:
    budget = row["label_budget"]
    return str(row["study"]) if budget is None else f"{budget:g}"


def _validation(row: Row) -> str:
    """The validation score and, in parentheses, its number of images."""
    value = val_share(row)
    if value is None:
        return ""
    images = "" if row["num_val"] is None else f" ({row['num_val']})"
    return percent(value) + images


def _interval(
    row: Row, names: Sequence[str], write: Callable[[float | None, str | None], str]
) -> str:
    """A score or a difference with its interval, if there is one."""
    mean, low, high = (write(row[name], row["metric"]) for name in names)
    return f"{mean} ({low} to {high})" if low and high else mean


def _cost(row: Row) -> str:
    """Duration of the trial in seconds: two digits below 10 s, whole seconds above."""
    seconds = row["duration_s"]
    return number(seconds, 2) if seconds is None or seconds < 10 else f"{seconds:,.0f}"


_TEST = ("test_score", "test_ci_low", "test_ci_high")
_DIFFERENCE = ("diff_to_best", "diff_ci_low", "diff_ci_high")
_CELLS: Mapping[str, Callable[[Row], str]] = {
    "sweep": lambda row: str(row.get("sweep_id")),
    "labels": _budget,
    "rank": lambda row: "" if row["rank"] is None else str(row["rank"]),
    "trial": lambda row: row["trial_id"],
    "method": lambda row: row["method"] or "",
    "backbone": lambda row: row["backbone"] or "",
    "depth": lambda row: number(row["freeze_depth"], 2),
    "lr": lambda row: number(row["lr"], 2),
    "objective": lambda row: number(row["val_objective"]),
    "val % (n)": _validation,
    "gain": lambda row: score_difference(row["gain_over_start"], row["metric"]),
    "metric": lambda row: metric_name(row["metric"]),
    "test": lambda row: _interval(row, _TEST, score),
    "to rank 1": lambda row: (
        "" if row["rank"] == 1 else _interval(row, _DIFFERENCE, score_difference)
    ),
    "": tie,
    "cost, s": _cost,
}
_DISPENSABLE = (
    "trial",
    "cost, s",
    "gain",
    "to rank 1",
)  # dropped in this order if the terminal is too narrow
_LEFT = {"sweep", "trial", "method", "backbone", ""}


def print_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows with these columns as CSV on stdout, the header at least."""
    writer = csv.writer(data_stdout(), lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(row[column]) for column in columns] for row in rows)


def print_markdown(rows: Sequence[Row]) -> None:
    """Print rows as a Markdown table on stdout, with their sweeps where there are several."""
    names, heads, out = _columns(rows), _heads(rows), data_stdout()
    print("| " + " | ".join(heads[name] or "tied" for name in names) + " |", file=out)
    print("|" + " --- |" * len(names), file=out)
    for row in rows:
        texts = cells(row)
        print("| " + " | ".join(markdown_cell(texts[name]) for name in names) + " |", file=out)
