"""`sft-sweep leaderboard`: show the best configurations of every label budget."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments import Json, Runs
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.datasets.test_set import TestSet
    from orchestrator.reading.loading import LoadedRun

DEFAULT_TOP = 3
"""Ranked rows shown per budget; finalists of lower rank are shown in addition."""

Row = Mapping[str, Any]
Spellings = Mapping[tuple[str, str | None], str | None]


def leaderboard(
    runs: Runs = None,
    *,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget", metavar="N", help="Only this many labels per class, or `all`. Repeatable."
        ),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            metavar="PATTERN",
            help="Only backbones of this name, or of a glob such as 'vit_*'. Repeatable.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", metavar="NAME", help="Only finetune, probe or pixels. Repeatable."
        ),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Ranked rows for each budget.")
    ] = DEFAULT_TOP,
    target: Annotated[
        float | None,
        typer.Option(
            "--target", metavar="SHARE", help="Labels needed for this test score, such as 0.95."
        ),
    ] = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> int:
    r"""Show the best configurations: validation score, test score with interval, and ties.

    \b
    Examples:
      sft-sweep leaderboard
      sft-sweep leaderboard --budget 5 --top 10
      sft-sweep leaderboard --backbone 'tiny_*' --method finetune
      sft-sweep leaderboard --target 0.95
      sft-sweep leaderboard runs/one runs/two --csv
    """
    from orchestrator.cli.output import leaderboard_table, targets
    from orchestrator.reading.loading import load_runs
    from orchestrator.recording.table_schemas import SCHEMAS

    if json + as_csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown: give one of them at most")
    if target is not None and not 0 < target < 1:
        raise UsageError(f"--target {target:g}: allowed is a share between 0 and 1, such as 0.95")
    if target is not None and as_csv:
        raise UsageError("--target and --csv: labels needed make no row; use --json")
    loaded = load_runs(runs or [])
    rows: list[Row] = [
        {"sweep_id": run.sweep_id, **row} for run in loaded for row in run.leaderboard.to_pylist()
    ]
    if not rows:
        print("no trial has completed yet; see: sft-sweep status", file=sys.stderr)
    rows = _filter_rows(
        rows, budget or [], backbone or [], method or [], _spellings(loaded) if backbone else {}
    )
    if len(loaded) > 1:  # rows of equal budgets side by side
        rows.sort(key=lambda row: (row["label_budget"] is None, row["label_budget"] or 0.0))
        _warn_of_differences(loaded)
    rows = leaderboard_table.visible(rows, top)
    needed = [] if target is None else targets.find(loaded, target)
    if json and target is None:
        print(jsonlib.dumps(rows))
    elif json:
        print(
            jsonlib.dumps({"leaderboard": rows, "labels_needed": [asdict(one) for one in needed]})
        )
    elif as_csv:
        leaderboard_table.print_csv(rows, ["sweep_id", *SCHEMAS["leaderboard"].names])
    elif markdown:
        leaderboard_table.print_markdown(rows)
        targets.print_lines(needed, markdown=True)
    else:
        leaderboard_table.print_table(
            rows, top=top, test_sets=[read_test_set(run) for run in loaded]
        )
        targets.print_lines(needed)
    return 0


def read_test_set(run: LoadedRun) -> TestSet | None:
    """The test set of a sweep; None if nothing was scored on it yet."""
    from orchestrator.datasets.test_set import find_test_set

    return find_test_set(
        run.read("trials", columns=["num_classes"]),
        run.read("predictions", columns=["trial_id", "repeat", "label"]),
    )


def _spellings(runs: Sequence[LoadedRun]) -> Spellings:
    """The full name of each backbone in its search-space file, by sweep id and short name."""
    found: dict[tuple[str, str | None], str | None] = {}
    for run in runs:
        for row in run.read("trials", columns=["backbone", "spec"]).to_pylist():
            key = run.sweep_id, row["backbone"]
            if key not in found:
                found[key] = jsonlib.loads(row["spec"] or "{}").get("backbone")
    return found


def _filter_rows(
    rows: list[Row],
    budgets: Sequence[str],
    backbones: Sequence[str],
    methods: Sequence[str],
    spellings: Spellings,
) -> list[Row]:
    """The rows that match every given filter.

    Args:
        rows: leaderboard rows.
        budgets: labels per class or names of studies; empty for all.
        backbones: names or globs; empty for all.
        methods: names of methods; empty for all.
        spellings: full names of backbones; see `_spellings`.

    Raises:
        UsageError: a filter matches no row.
    """
    for option, wanted, names_of in (
        ("--budget", budgets, _budget_names),
        ("--backbone", backbones, lambda row: _backbone_names(row, spellings)),
        ("--method", methods, lambda row: [row["method"]]),
    ):
        known = list(dict.fromkeys(names_of(row)[0] for row in rows))
        for pattern in wanted:
            if rows and not any(_matches(names_of(row), [pattern]) for row in rows):
                raise UsageError(
                    f"{option} {pattern}: not in this sweep; allowed: "
                    + ", ".join(name for name in known if name)
                )
        if wanted:
            rows = [row for row in rows if _matches(names_of(row), wanted)]
    return rows


def _matches(names: Iterable[str | None], patterns: Sequence[str]) -> bool:
    return any(
        name is not None and (name == pattern or fnmatchcase(name, pattern))
        for name in names
        for pattern in patterns
    )


def _budget_names(row: Row) -> list[str]:
    """The names that `--budget` accepts for a row: labels per class, and the study."""
    labels = row["label_budget"]
    return [row["study"]] if labels is None else [f"{labels:g}", row["study"]]


def _backbone_names(row: Row, spellings: Spellings) -> list[str | None]:
    """The names that `--backbone` accepts: short, full, and relative to this directory."""
    from orchestrator.space import relative_backbone

    whole = spellings.get((row["sweep_id"], row["backbone"]))
    return [row["backbone"], whole, whole and relative_backbone(whole)]


def _warn_of_differences(runs: Sequence[LoadedRun]) -> None:
    """Warn on stderr if the sweeps differ in images or objective and so do not compare."""
    import pyarrow.compute as pc

    images = {run.manifest.get("dataset_fingerprint") for run in runs}
    if len(images) > 1:
        print(
            "these sweeps have different images or splits: their test scores do not compare",
            file=sys.stderr,
        )
    objectives = {
        value for run in runs for value in pc.unique(run.trials["objective"]).to_pylist() if value
    }
    if len(objectives) > 1:
        print(
            f"these sweeps rank by different objectives: {', '.join(sorted(objectives))}",
            file=sys.stderr,
        )
