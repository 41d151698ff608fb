"""Sweep directories with tables but no journal: any number of trials, never trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.table_schemas import SCHEMA_VERSION, SCHEMAS
from orchestrator.recording.tables import write_table

Row = dict[str, Any]

_STEPS, _REPORTS = 100, 5


def write_sweep(
    directory: Path,
    *,
    budgets: Sequence[int] = (2, 5, 10),
    trials: int = 12,
    backbones: Sequence[str] = ("tiny_a", "tiny_b"),
    classes: Sequence[str] = ("cat", "dog", "owl"),
    sweep_id: str = "made-up",
    num_test: int = 40,
    repeats: int = 3,
    seed: int = 0,
    objective: str = "accuracy",
) -> Path:
    """A finished sweep of random scores: every third trial pruned, one failed, two finalists.

    Args:
        directory: the sweep directory, which is created.
        budgets: labels per class.
        trials: number of trials per budget.
        backbones: backbones, which trials have in turn.
        classes: names of the classes.
        sweep_id: id of the sweep in the manifest and in all rows.
        num_test: number of test images.
        repeats: number of repeats of finalists and baselines.
        seed: seed of the scores.
        objective: metric that ranks trials; for a loss, validation scores are like an accuracy's.
    """
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    rows: list[Row] = []
    curves: list[Row] = []
    finals: list[Row] = []
    predictions: list[pa.Table] = []
    for budget in budgets:
        made = [
            _trial(sweep_id, budget, number, backbones[number % len(backbones)], len(classes), rng)
            for number in range(trials)
        ]
        baselines = [_baseline(sweep_id, budget, None, len(classes), rng)]
        baselines += [_baseline(sweep_id, budget, name, len(classes), rng) for name in backbones]
        rows += [*made, *baselines]
        for row in made:
            curves += _curve(row, rng)
        complete = [row for row in made if row["state"] == "complete"]
        best = sorted(complete, key=lambda row: -row["val_objective"])[:2]
        for row in [*best, *baselines]:
            for repeat in range(repeats):
                some = _predictions(row, repeat, classes, num_test, rng)
                predictions.append(some)
                finals.append(_final(row, repeat, some))
    for row in rows:
        row["objective"] = objective
    tables = {
        "trials": pa.Table.from_pylist(rows, schema=SCHEMAS["trials"]),
        "curves": pa.Table.from_pylist(curves, schema=SCHEMAS["curves"]),
        "finals": pa.Table.from_pylist(finals, schema=SCHEMAS["finals"]),
        "predictions": pa.concat_tables([SCHEMAS["predictions"].empty_table(), *predictions]),
    }
    board = build_leaderboard(tables["trials"], tables["finals"], tables["predictions"])
    for name, table in tables.items():
        write_table(directory, name, table)
    write_table(directory, "leaderboard", board)
    (directory / "manifest.json").write_text(
        json.dumps({"sweep_id": sweep_id, "versions": {"torch": "2.0"}, "hosts": ["host"]})
    )
    return directory


def _trial(
    sweep_id: str,
    budget: int,
    number: int,
    backbone: str,
    num_classes: int,
    rng: np.random.Generator,
) -> Row:
    state = "pruned" if number % 3 == 2 else "failed" if number == 7 else "complete"
    reports = {"complete": _REPORTS, "pruned": 2, "failed": 0}[state]
    accuracy = float(rng.uniform(0.3, 1.0)) if reports else None
    lr, depth = float(10 ** rng.uniform(-4, -1.5)), float(rng.integers(5) / 4)
    return {
        "sweep_id": sweep_id,
        "trial_id": f"b{budget}-{number:04d}",
        "study": f"b{budget}",
        "state": state,
        "failure": "MemoryError: none left" if state == "failed" else None,
        "method": "finetune",
        "backbone": backbone,
        "freeze_depth": depth,
        "lr": lr,
        "trainable_params": 100,
        "label_budget": float(budget),
        "labels_used": budget * num_classes,
        "num_classes": num_classes,
        "selection": "folds=3",
        "objective": "accuracy",
        "params": json.dumps({"backbone": backbone, "freeze_depth": depth, "lr": lr}),
        "spec": json.dumps({"steps": _STEPS, "reports": _REPORTS}),
        "steps": _STEPS // _REPORTS * reports or None,
        "val_objective": accuracy,
        "val_accuracy": accuracy,
        "val_loss": float(rng.uniform(0.1, 2.0)),
        "gain_over_start": accuracy and accuracy - 0.5,
        "num_val": budget * num_classes,
        "duration_s": float(rng.uniform(0.5, 20.0)),
        "seed": 0,
        "schema_version": SCHEMA_VERSION,
        "modality": "image",
    }


def _baseline(
    sweep_id: str, budget: int, backbone: str | None, num_classes: int, rng: np.random.Generator
) -> Row:
    method = "pixels" if backbone is None else "probe"
    name = method if backbone is None else f"{method}-{backbone}"
    return _trial(sweep_id, budget, 0, backbone or "", num_classes, rng) | {
        "trial_id": f"b{budget}-{name}",
        "method": method,
        "backbone": backbone,
        "freeze_depth": None,
        "lr": None,
        "gain_over_start": None,
        "params": "{}",
        "spec": "{}",
        "steps": None,
    }


def _curve(row: Row, rng: np.random.Generator) -> list[Row]:
    reports = (row["steps"] or 0) * _REPORTS // _STEPS
    if reports:
        reports += 1  # report 0 is the start
    return [
        {
            "sweep_id": row["sweep_id"],
            "trial_id": row["trial_id"],
            "report": report,
            "step": report * _STEPS // _REPORTS,
            "val_accuracy": row["val_accuracy"]
            if report == reports - 1
            else float(rng.uniform(0.2, 0.9)),
        }
        for report in range(reports)
    ]


def _final(row: Row, repeat: int, predictions: pa.Table) -> Row:
    pairs = zip(predictions["label"].to_pylist(), predictions["predicted"].to_pylist(), strict=True)
    right = [label == predicted for label, predicted in pairs]
    return {
        "sweep_id": row["sweep_id"],
        "trial_id": row["trial_id"],
        "repeat": repeat,
        "label_budget": row["label_budget"],
        "test_accuracy": sum(right) / len(right),
        "num_test": len(right),
        "duration_s": 1.5,
    }


def _predictions(
    row: Row, repeat: int, classes: Sequence[str], num_test: int, rng: np.random.Generator
) -> pa.Table:
    label = np.arange(num_test) % len(classes)
    wrong = rng.random(num_test) > (row["val_accuracy"] or 0.5)
    predicted = np.where(wrong, (label + 1) % len(classes), label)
    sure = rng.uniform(0.5, 1.0, num_test)
    names = np.array(classes, dtype=object)
    columns = {
        "sweep_id": pa.repeat(row["sweep_id"], num_test),
        "trial_id": pa.repeat(row["trial_id"], num_test),
        "repeat": pa.repeat(pa.scalar(repeat, pa.int64()), num_test),
        "image_id": pa.array([f"{image:016x}" for image in range(num_test)]),
        "path": pa.array([f"{names[label[image]]}/{image}.png" for image in range(num_test)]),
        "label": pa.array(names[label]),
        "predicted": pa.array(names[predicted]),
        "probability": pa.array(sure),
        "label_probability": pa.array(np.where(wrong, 1 - sure, sure)),
        **{name: pa.nulls(num_test) for name in ("probabilities", "pixels", "log_loss", "mask")},
    }
    return pa.table(columns, schema=SCHEMAS["predictions"])
