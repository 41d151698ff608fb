"""The report of a sweep in one HTML file: its answer, its figures and its protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.datasets.test_set import TestSet, find_test_set
from orchestrator.errors import StorageError, SweepError, UsageError
from orchestrator.planning.preparation import read_data
from orchestrator.reading.answer import answer
from orchestrator.reading.loading import load_run
from orchestrator.reading.report import charts, trial_charts
from orchestrator.reading.report.contents import Row, Series, Study, series, spent, studies
from orchestrator.reading.report.importance import importances
from orchestrator.reading.report.mask_winner import MaskWinner, mask_winner
from orchestrator.reading.report.overlays import overlays
from orchestrator.reading.report.page import Page, render
from orchestrator.reading.report.thumbnails import beginnings, thumbnails
from orchestrator.reading.report.winner import Winner, winner
from orchestrator.recording import user_attributes
from orchestrator.recording.leaderboard import recommended_rows
from orchestrator.recording.projection import load_studies
from orchestrator.recording.savings import measure_savings
from orchestrator.recording.sweep_directory import Run, write_text
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.user_attributes import budget_unit
from orchestrator.text import metric_name
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import TrainableError
from trainable.spec.metrics import Metric

__all__ = ["write_report"]

_log = logging.getLogger("sft_sweep")

_RANKS_SHOWN = 5

SEGMENTATION = "segmentation"
"""The task whose labels are masks."""


def write_report(run: Run, path: Path, *, images: LabelledExamples | None = None) -> None:
    """Write the report of a sweep, finished or not.

    Args:
        run: the sweep; its tables are read as they are, and its journal if there is one.
        path: path of the HTML file, which is replaced atomically.
        images: images of the sweep, for thumbnails; None to read them from their source.

    Raises:
        UsageError: this is not a sweep directory.
        StorageError: a table cannot be read, or the file cannot be written.
    """
    write_text(path, render(_page(run, images)))


def _page(run: Run, images: LabelledExamples | None) -> Page:
    loaded = load_run(run.path)
    tables = {name: loaded.table(name) for name in SCHEMAS}
    manifest = loaded.manifest
    journal = _journal(run)
    rows = tables["leaderboard"].to_pylist()
    objective = next(iter(pc.unique(tables["trials"]["objective"]).to_pylist()), None)
    metric = Metric(objective or Metric.ACCURACY)
    test_set = find_test_set(tables["trials"], tables["predictions"])
    budgets = studies(tables["trials"], tables["curves"], metric=metric)
    recommended = recommended_rows(rows)
    are_masks = SEGMENTATION in tables["trials"]["task"].to_pylist()
    best: Winner | None = None
    best_masks: MaskWinner | None = None
    if recommended and are_masks:
        best_masks = mask_winner(recommended[-1], tables["predictions"])
    elif recommended:
        best = winner(recommended[-1], tables["predictions"])
    noun = next(filter(None, tables["trials"]["modality"].to_pylist()), "image")
    wrong = {mistake.image_id for mistake in best.mistakes} if best else set()
    worst = best_masks.worst if best_masks else []
    examples, note = _examples(run, images, noun=noun) if wrong or worst else (None, None)
    is_text = noun == "text"
    found = series(rows)
    unit = budget_unit(rows[0]) if rows else ""
    return Page(
        sweep_id=str(manifest["sweep_id"]),
        unfinished=not journal
        or not all(user_attributes.FINISHED in study.user_attrs for study in journal.values()),
        answer=answer(
            rows,
            num_test=test_set.num_images if test_set else None,
            run=str(run.path),
        ),
        series=found,
        test_set=test_set.described(noun) if test_set else None,
        metric=metric,
        leaderboard=[(budget.label, _shown(rows, budget)) for budget in budgets],
        curve_notes=[
            f"{budget.label}: {len(budget.curves)} of {budget.num_curves:,} curves are drawn, the "
            "best half by rank and others spread over the rest."
            for budget in budgets
            if len(budget.curves) < budget.num_curves
        ],
        winner=best,
        mask_winner=best_masks,
        thumbnails={
            **(thumbnails(examples, wrong) if examples and not is_text else {}),
            **(overlays(examples, worst) if examples and are_masks else {}),
        },
        scored=_scored(metric, are_masks=are_masks),
        unit=unit,
        texts=beginnings(examples, wrong) if examples and is_text else {},
        noun=noun,
        thumbnail_note=note,
        spent=spent(tables["trials"], tables["finals"]),
        savings=measure_savings(journal.values()).text,
        protocol=_protocol(manifest, tables, metric, test_set, noun=noun),
        figures={
            **_figures(
                budgets,
                found,
                journal,
                metric,
                scored=_scored(metric, are_masks=are_masks),
                unit=unit,
            ),
            **_figures_of_winner(best, best_masks),
        },
    )


def _journal(run: Run) -> dict[str, optuna.Study]:
    """Return the studies of a sweep; empty if there is no usable journal."""
    try:
        return load_studies(run.path)
    except UsageError:
        return {}
    except StorageError as error:
        _log.warning("%s", error)
        return {}


def _shown(rows: list[Row], budget: Study) -> list[Row]:
    """Return the first ranks of a budget, and all rows with a test score."""
    return [
        row
        for row in rows
        if row["study"] == budget.name
        and (
            row["test_score"] is not None
            or (row["rank"] is not None and row["rank"] <= _RANKS_SHOWN)
        )
    ]


def _figures(
    budgets: list[Study],
    found: list[Series],
    journal: Mapping[str, optuna.Study],
    metric: Metric,
    *,
    scored: str,
    unit: str,
) -> dict[str, dict[str, charts.Figure]]:
    """Return the panels of every figure; empty if there is nothing to draw."""
    backbones = list(dict.fromkeys(point.backbone for one in budgets for point in one.points))
    looks = charts.Looks(backbones)
    with_curves = [budget for budget in budgets if budget.curves]
    with_scores = [budget for budget in budgets if budget.front]
    weighed = {
        budget.label: some
        for budget in budgets
        if budget.name in journal and (some := importances(journal[budget.name]))
    }
    return {
        "efficiency": {"": charts.efficiency(found, looks, metric, unit_of_labels=unit)}
        if found
        else {},
        "depth-and-rate": {
            b.label: trial_charts.depth_and_rate(b, backbones, scored=scored) for b in budgets
        },
        "importance": {"": charts.axis_importance(weighed)} if weighed else {},
        "curves": {
            b.label: trial_charts.learning_curves(b, looks, scored=scored) for b in with_curves
        },
        "pareto": {b.label: trial_charts.pareto(b, looks, scored=scored) for b in with_scores},
    }


def _figures_of_winner(
    best: Winner | None, best_masks: MaskWinner | None
) -> dict[str, dict[str, charts.Figure]]:
    """Return the figures of the winner's classes; empty without one."""
    by_class: charts.Figure | None = None
    if best is not None:
        by_class = charts.class_scores(best.class_accuracy, scored="accuracy", counted="answers")
    elif best_masks is not None:
        by_class = charts.class_scores(best_masks.class_iou, scored="IoU", counted="pixels")
    return {
        "class-scores": {"": by_class} if by_class else {},
        "confusion": {"": charts.confusion(best)} if best else {},
    }


def _scored(metric: Metric, *, are_masks: bool) -> str:
    """Return the name of the validation score that figures of trials show."""
    return metric_name(metric) if are_masks else "accuracy"


def _examples(
    run: Run, images: LabelledExamples | None, *, noun: str
) -> tuple[LabelledExamples | None, str | None]:
    """Return the examples to show the winner's mistakes of, and a note if they are gone."""
    if images is None:
        try:
            images = read_data(run.space).images
        except (SweepError, TrainableError, OSError) as error:
            reason = str(error).splitlines()[0]
            return None, f"Without the {noun}s: they cannot be read any more ({reason})."
    return images, None


def _protocol(
    manifest: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    metric: Metric,
    test_set: TestSet | None,
    *,
    noun: str,
) -> list[tuple[str, str]]:
    """Return names and values that describe how the sweep was measured."""
    trials, finals = tables["trials"], tables["finals"]
    versions = manifest.get("versions", {})
    entries = [
        ("Ranked by", f"{metric.value.replace('_', ' ')} in validation"),
        ("Validation", _values(trials, "selection")),
        ("Test set", test_set.described(noun) if test_set else "nothing was scored on it"),
        ("Repeats", _repeats(finals)),
        (
            "Intervals",
            "95 %, over fresh draws of labels and fresh test examples; differences are paired "
            "by repeat and example. They hold for the configuration that was chosen, and say "
            "nothing of whether another choice would have been better; they are not adjusted for "
            "comparing several rows",
        ),
        ("Classes", _values(trials, "num_classes")),
        ("Labels used", _values(trials, "labels_used")),
        ("Seed", _values(trials, "seed")),
        ("Devices", _values(trials, "device")),
        ("Started (UTC)", str(manifest.get("created_at", ""))[:19].replace("T", " ")),
        ("sft-sweep", str(manifest.get("tool_version", ""))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Python", str(manifest.get("python", ""))),
        ("Git commit", str(manifest.get("git_commit") or "")),
        ("Data fingerprint", str(manifest.get("dataset_fingerprint", ""))),
        ("Search space", str(manifest.get("space_hash", ""))),
        ("Hosts", ", ".join(map(str, manifest.get("hosts", [])))),
    ]
    return [(name, value) for name, value in entries if value]


def _values(table: pa.Table, column: str) -> str:
    """Return the distinct values of a column in words."""
    return ", ".join(
        str(value) for value in pc.unique(table[column]).to_pylist() if value is not None
    )


def _repeats(finals: pa.Table) -> str:
    """Return the number of label draws that finalists and baselines were scored with."""
    if not finals.num_rows:
        return ""
    return str(int(pc.max(finals["repeat"]).as_py()) + 1)
