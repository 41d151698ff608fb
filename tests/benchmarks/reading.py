"""How long a large sweep takes to read: the commands that look at one of 10,000 trials.

    python -m tests.benchmarks.reading [--trials 10000] [--test-images 797]

The tables are made up, of the sizes that a sweep of four budgets writes: 5 reports a trial, 3
finalists and 4 baselines a budget, 5 repeats each. Times are of the second of two runs in one
process, so that they hold no imports.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.cli.main import run
from orchestrator.leaderboard import build_leaderboard
from orchestrator.tables import SCHEMA_VERSION, SCHEMAS, write_table

BUDGETS = (2, 5, 10, 20)
REPORTS, FINALISTS, REPEATS = 5, 3, 5
BACKBONES = ("tiny_strokes", "tiny_fractals", "tiny_untrained")

COMMANDS: dict[str, list[str]] = {
    "leaderboard": ["leaderboard"],
    "leaderboard --target 0.95": ["leaderboard", "--target", "0.95"],
    "leaderboard --json --top 10000": ["leaderboard", "--json", "--top", "10000"],
    "query: trials by state": ["query", "SELECT state, count(*) FROM trials GROUP BY ALL"],
    "query: hardest images": [
        "query",
        "SELECT path, avg((label = predicted)::INT) AS right FROM predictions "
        "GROUP BY ALL ORDER BY 2, 1 LIMIT 10",
    ],
    "query: all curves as CSV": ["query", "FROM curves", "--csv"],
}
"""What is timed, without the directory; a further command is a further line."""


def main() -> None:
    """Make up a sweep and print a table of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--test-images", type=int, default=797)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "large"
        write_sweep(directory, num_trials=given.trials, num_images=given.test_images)
        size = sum(path.stat().st_size for path in directory.iterdir()) / 2**20
        print(f"{given.trials:,} trials, {given.test_images:,} test images: {size:.1f} MiB\n")
        print("| command | seconds | MiB out |")
        print("| --- | ---: | ---: |")
        for name, arguments in COMMANDS.items():
            seconds, written = [_time([*arguments, str(directory)]) for _ in range(2)][-1]
            print(f"| {name} | {seconds:.2f} | {written / 2**20:.2f} |")


def _time(arguments: list[str]) -> tuple[float, int]:
    """Seconds that a command takes, and the characters it writes."""
    sink = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(sink):
        code = run(arguments)
    if code:
        raise RuntimeError(f"{arguments}: exit code {code}")
    return time.perf_counter() - start, len(sink.getvalue())


def write_sweep(directory: Path, *, num_trials: int, num_images: int) -> None:
    """A sweep directory with tables of so many trials and test images."""
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(json.dumps({"sweep_id": directory.name}))
    rng = np.random.default_rng(0)
    trials = list(_trials(rng, num_trials, directory.name))
    curves = [
        {
            "sweep_id": directory.name,
            "trial_id": row["trial_id"],
            "report": report,
            "step": 20 * (report + 1),
            "train_loss": 1 / (report + 1),
            "val_loss": 1 / (report + 1),
            "val_accuracy": row["val_accuracy"] * (report + 1) / REPORTS,
            "val_objective": row["val_accuracy"] * (report + 1) / REPORTS,
            "elapsed_s": 0.5 * (report + 1),
        }
        for row in trials
        if row["method"] == "finetune"
        for report in range(REPORTS)
    ]
    tested = _tested(trials)
    finals = [
        {
            "sweep_id": directory.name,
            "trial_id": row["trial_id"],
            "repeat": repeat,
            "label_budget": row["label_budget"],
            "test_accuracy": row["val_accuracy"],
            "num_test": num_images,
        }
        for row in tested
        for repeat in range(REPEATS)
    ]
    parts = [_predictions(rng, final, num_images) for final in finals]
    tables = {
        "trials": pa.Table.from_pylist(trials, schema=SCHEMAS["trials"]),
        "curves": curves,
        "finals": pa.Table.from_pylist(finals, schema=SCHEMAS["finals"]),
        "predictions": pa.concat_tables(parts),
    }
    for name, table in tables.items():
        write_table(directory, name, table)
    board = build_leaderboard(tables["trials"], tables["finals"], tables["predictions"])
    write_table(directory, "leaderboard", board)


def _trials(rng: np.random.Generator, num_trials: int, sweep_id: str) -> Iterator[dict[str, Any]]:
    for budget in BUDGETS:
        common = {
            "sweep_id": sweep_id,
            "study": f"b{budget}",
            "label_budget": float(budget),
            "labels_used": 10 * budget,
            "num_classes": 10,
            "num_val": 10 * budget,
            "objective": "accuracy",
            "state": "complete",
            "attempt": 0,
            "schema_version": SCHEMA_VERSION,
            "started_at": datetime(2026, 1, 31, tzinfo=UTC),
        }
        for number in range(num_trials // len(BUDGETS)):
            lr, score = float(10 ** rng.uniform(-4, -1.5)), float(rng.uniform(0.3, 0.98))
            backbone = BACKBONES[number % len(BACKBONES)]
            params = {"backbone": backbone, "lr": lr}
            yield common | {
                "trial_id": f"b{budget}-{number:04d}",
                "state": "pruned" if number % 4 == 3 else "complete",
                "method": "finetune",
                "backbone": backbone,
                "weights": backbone,
                "freeze_depth": number % 5 / 4,
                "lr": lr,
                "params": json.dumps(params),
                "spec": json.dumps(params | {f"knob_{i}": i for i in range(20)}),
                "val_objective": score,
                "val_accuracy": score,
                "val_loss": 1 - score,
                "duration_s": float(rng.uniform(0.1, 5)),
            }
        for method, backbone in [("pixels", ""), *(("probe", name) for name in BACKBONES)]:
            yield common | {
                "trial_id": "-".join(filter(None, (f"b{budget}", method, backbone))),
                "method": method,
                "backbone": backbone or None,
                "params": "{}",
                "val_objective": 0.7,
                "val_accuracy": 0.7,
                "val_loss": 0.5,
            }


def _tested(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best complete trials of every budget, and its baselines."""
    found = []
    for budget in BUDGETS:
        mine = [r for r in trials if r["label_budget"] == budget and r["state"] == "complete"]
        tuned = [row for row in mine if row["method"] == "finetune"]
        tuned.sort(key=lambda row: -row["val_accuracy"])
        found += tuned[:FINALISTS] + [row for row in mine if row["method"] != "finetune"]
    return found


def _predictions(rng: np.random.Generator, final: dict[str, Any], num_images: int) -> pa.Table:
    labels = np.arange(num_images) % 10
    right = rng.random(num_images) < 0.85 + 0.005 * final["label_budget"]
    probability = rng.random(num_images)
    columns = {
        "sweep_id": pa.repeat(final["sweep_id"], num_images),
        "trial_id": pa.repeat(final["trial_id"], num_images),
        "repeat": pa.repeat(pa.scalar(final["repeat"], pa.int64()), num_images),
        "image_id": pa.array([f"{i * 2654435761 % 2**64:016x}" for i in range(num_images)]),
        "path": pa.array([f"digits/{i:05d}" for i in range(num_images)]),
        "label": pa.array([str(label) for label in labels]),
        "predicted": pa.array([str(label) for label in np.where(right, labels, 9 - labels)]),
        "probability": pa.array(probability),
        "label_probability": pa.array(probability),
    }
    return pa.table(columns, schema=SCHEMAS["predictions"])


if __name__ == "__main__":
    main()
