"""Sweep directories with small tables, written without a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.reading.loading import LoadedRun, load_run
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import write_table
from tests.orchestrator.recording.test_leaderboard import answers, trial

Row = dict[str, Any]


def write_sweep(
    directory: Path,
    *,
    trials: Sequence[Row] = (),
    tested: Mapping[str, Sequence[Sequence[int]]] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """Write a sweep with these trials, and these right and wrong answers on the test set."""
    sweep_id = directory.name
    directory.mkdir(parents=True)
    contents = {"sweep_id": sweep_id, "created_at": "2026-01-31", **(manifest or {})}
    (directory / "manifest.json").write_text(json.dumps(contents), encoding="utf-8")
    made = [answers(trial_id, correct) for trial_id, correct in (tested or {}).items()]
    rows = {
        "trials": list(trials),
        "curves": [
            {"trial_id": row["trial_id"], "report": report, "val_accuracy": 0.1 * report}
            for row in trials
            for report in range(2)
        ],
        "finals": [row for finals, _ in made for row in finals],
        "predictions": [row for _, predictions in made for row in predictions],
    }
    tables = {
        name: pa.Table.from_pylist(
            [row | {"sweep_id": sweep_id} for row in found], schema=SCHEMAS[name]
        )
        for name, found in rows.items()
    }
    for name, table in tables.items():
        write_table(directory, name, table)
    board = build_leaderboard(tables["trials"], tables["finals"], tables["predictions"])
    write_table(directory, "leaderboard", board)
    return directory


def digits_sweep(directory: Path) -> Path:
    """Write a sweep of two budgets with three trials each, finalists and baselines."""
    return write_sweep(
        directory,
        trials=[
            trial(f"b{labels}-000{number}", score, backbone=backbone, duration_s=1.5)
            for labels in (2, 10)
            for number, (score, backbone) in enumerate(
                [(0.7, "tiny_strokes"), (0.9, "tiny_fractals"), (0.8, "resnet18")]
            )
        ]
        + [trial("b2-pixels", 0.3, method="pixels", backbone=None)]
        + [trial("b10-probe-tiny_strokes", 0.8, method="probe", backbone="tiny_strokes")],
        tested={
            "b2-0001": [[1] * 8 + [0] * 2] * 3,
            "b10-0001": [[1] * 9 + [0]] * 3,
            "b2-pixels": [[1] * 3 + [0] * 7] * 3,
            "b10-probe-tiny_strokes": [[1] * 8 + [0] * 2] * 3,
        },
    )


def loaded(directory: Path) -> LoadedRun:
    """`digits_sweep`, loaded."""
    return load_run(digits_sweep(directory))
