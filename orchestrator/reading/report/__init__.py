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
from orchestrator.reading.report.page import Page, render
from orchestrator.reading.report.thumbnails import beginnings, thumbnails
from orchestrator.reading.report.winner import Winner, winner
from orchestrator.recording import user_attributes
from orchestrator.recording.leaderboard import recommended_rows
from orchestrator.recording.projection import load_studies
from orchestrator.recording.savings import measure_savings
from orchestrator.recording.sweep_directory import Run, write_text
from orchestrator.recording.table_schemas import SCHEMAS
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import TrainableError
from trainable.spec.metrics import Metric

__all__ = ["write_report"]

_log = logging.getLogger("sft_sweep")

_RANKS_SHOWN = 5


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
    budgets = studies(tables["trials"], tables["curves"], maximize=metric.maximize)
    recommended = recommended_rows(rows)
    best = winner(recommended[-1], tables["predictions"]) if recommended else None
    noun = next(filter(None, tables["trials"]["modality"].to_pylist()), "image")
    examples, note = _examples(run, images, best, noun=noun)
    wrong = {mistake.image_id for mistake in best.mistakes} if best else set()
    is_text = noun == "text"
    found = series(rows)
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
        thumbnails=thumbnails(examples, wrong) if examples and not is_text else {},
        texts=beginnings(examples, wrong) if examples and is_text else {},
        noun=noun,
        thumbnail_note=note,
        spent=spent(tables["trials"], tables["finals"]),
        savings=measure_savings(journal.values()).text,
        protocol=_protocol(manifest, tables, metric, test_set, noun=noun),
        figures=_figures(budgets, found, journal, best, metric),
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
    best: Winner | None,
    metric: Metric,
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
        "efficiency": {"": charts.efficiency(found, looks, metric)} if found else {},
        "depth-and-rate": {b.label: trial_charts.depth_and_rate(b, backbones) for b in budgets},
        "importance": {"": charts.axis_importance(weighed)} if weighed else {},
        "curves": {b.label: trial_charts.learning_curves(b, looks) for b in with_curves},
        "pareto": {b.label: trial_charts.pareto(b, looks) for b in with_scores},
        "class-accuracy": {"": charts.class_accuracy(best)} if best else {},
        "confusion": {"": charts.confusion(best)} if best else {},
    }


def _examples(
    run: Run, images: LabelledExamples | None, best: Winner | None, *, noun: str
) -> tuple[LabelledExamples | None, str | None]:
    """Return the examples to show the winner's mistakes of, and a note if they are gone."""
    if best is None or not best.mistakes:
        return None, None
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
