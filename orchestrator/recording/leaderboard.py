"""The leaderboard of a sweep: ranked by validation, with test scores and ties for the finalists.

It is a pure function of three tables; the order of their rows does not matter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.methods import Method
from orchestrator.recording.ranking import Standing
from orchestrator.recording.scoring import TestScores, score_finalists
from orchestrator.recording.table_schemas import SCHEMAS
from trainable.spec.metrics import Metric
from trainable.spec.settings import AUTO, DEFAULTS, INPUTS, READINGS, SIZES

Row = dict[str, Any]

_CONFIGURATION = ("study", "backbone", "weights", "freeze_depth", "lr", "params")


def build_leaderboard(trials: pa.Table, finals: pa.Table, predictions: pa.Table) -> list[Row]:
    """Return one row per distinct configuration and budget, best first, by `SCHEMAS`.

    Complete trials and linear probes are ranked within their study by `Standing`, that is by
    validation; the test set does not affect the order. Equal configurations share the row of the
    earliest trial, or of the earliest finalist among them. Raw pixels follow without a rank.

    Test scores use the sweep's objective as the metric. They cover the repeats that are both in
    `finals` and in `predictions`, on the images that all of those repeats predicted. Differences
    are to the first ranked row with test scores, paired on the repeats and images that both rows
    have; a row is tied if the interval contains zero.

    Args:
        trials: trials of one sweep, by `SCHEMAS`.
        finals: finals of the same sweep.
        predictions: predictions of the same sweep.

    Returns:
        Rows by label budget, then rank, then pixels; columns that do not apply are None.

    Raises:
        ValueError: the trials belong to several sweeps, or an objective is unknown.
    """
    if len(pc.unique(trials["sweep_id"])) > 1:
        raise ValueError("trials: rows of several sweeps; build one leaderboard a sweep")
    settled = trials.filter(pc.equal(trials["state"], "complete")).select(_USED).to_pylist()
    if not settled:
        return []
    metric = Metric(settled[0]["objective"])
    scores = score_finalists(finals, predictions, metric)
    studies: dict[str, list[Row]] = {}
    collapsed = _collapsed(finals)
    for trial in settled:
        trial["collapsed"] = collapsed.get(trial["trial_id"])
        studies.setdefault(trial["study"], []).append(trial)
    rows: list[Row] = []
    for study in sorted(studies, key=lambda study: (_budget(studies[study]), study)):
        rows += _study_rows(studies[study], scores, metric)
    return rows


def recommended_rows(rows: Iterable[Mapping[str, Any]], *, method: str | None = None) -> list[Row]:
    """Return the configuration to use at each budget: the first ranked row with a test score.

    If no ranked row of a study has a test score, it is the first ranked one; a study without ranked
    rows has no pick. The rows are ordered by validation only, so the test score of a pick is not a
    maximum over test scores.

    Args:
        rows: rows of one sweep's leaderboard, in its order.
        method: `finetune` or `probe` to pick only among these.

    Returns:
        At most one row per study, in the order of the rows.
    """
    picked: dict[str, Row] = {}
    for row in rows:
        if row["rank"] is not None and method in (None, row["method"]):
            held = picked.setdefault(row["study"], dict(row))
            if held["test_score"] is None and row["test_score"] is not None:
                picked[row["study"]] = dict(row)
    return list(picked.values())


def own_probe(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Row | None:
    """Return the linear probe on what a configuration sees, or None.

    Args:
        row: the configuration, a row of a leaderboard.
        rows: all rows of that leaderboard.
    """
    for other in rows:
        same = (other["study"], other["backbone"]) == (row["study"], row["backbone"])
        if same and other["method"] == Method.PROBE and _sees_the_same(row, other):
            return dict(other)
    return None


def _sees_the_same(row: Mapping[str, Any], probe: Mapping[str, Any]) -> bool:
    """Return whether a probe uses inputs of the size and kind of a configuration's.

    What is not known of a probe was the default of its backbone, which is what `auto` means.
    """
    params = json.loads(row["params"] or "{}")
    return all(
        params.get(name, DEFAULTS[name]) == DEFAULTS[name]
        if probe.get(name) is None
        else probe[name] == row[name]
        for name in INPUTS
    )


_USED = [
    *(c for c in SCHEMAS["leaderboard"].names if c in SCHEMAS["trials"].names),
    *("weights", "objective", "val_loss", "trainable_params", "spec"),
]


def _study_rows(
    trials: Sequence[Row], scores: Mapping[str, TestScores], metric: Metric
) -> list[Row]:
    """Return the finished rows of one study: ranked configurations, then raw pixels."""

    def by_standing(trial: Row) -> tuple[Any, ...]:
        return _standing(trial).key(metric)

    tuned = _distinct((trial for trial in trials if trial["method"] == Method.FINETUNE), scores)
    probes = [trial for trial in trials if trial["method"] == Method.PROBE]
    ranked = sorted([*tuned, *probes], key=by_standing)
    others = [trial for trial in trials if trial["method"] not in (Method.FINETUNE, Method.PROBE)]
    best = next((scores[t["trial_id"]] for t in ranked if t["trial_id"] in scores), None)
    ranks: Iterable[int | None] = [*range(1, len(ranked) + 1), *[None] * len(others)]
    return [
        _row(trial, rank, metric, scores.get(trial["trial_id"]), best)
        for trial, rank in zip([*ranked, *sorted(others, key=by_standing)], ranks, strict=True)
    ]


def _standing(trial: Row) -> Standing:
    return Standing(
        objective=trial["val_objective"],
        is_probe=trial["method"] == Method.PROBE,
        loss=trial["val_loss"],
        trainable_params=trial["trainable_params"],
        lr=trial["lr"],
        trial_id=trial["trial_id"],
    )


def _distinct(trials: Iterable[Row], finalists: Collection[str]) -> list[Row]:
    """Return the first trial of every configuration, preferring finalists."""
    kept: dict[tuple[Any, ...], Row] = {}
    for trial in sorted(trials, key=lambda t: (t["trial_id"] not in finalists, *_age(t))):
        kept.setdefault(tuple(trial[column] for column in _CONFIGURATION), trial)
    return list(kept.values())


def _age(trial: Row) -> tuple[int, str]:
    """Return a sort key of the trial ids of a study, by number even past 9999."""
    return len(trial["trial_id"]), trial["trial_id"]


def _budget(trials: Iterable[Row]) -> float:
    budgets = (trial["label_budget"] for trial in trials)
    return min(math.inf if budget is None else budget for budget in budgets)


def _row(
    trial: Row, rank: int | None, metric: Metric, scores: TestScores | None, best: TestScores | None
) -> Row:
    """Return one leaderboard row."""
    test = scores.interval() if scores else None
    known = {column: trial.get(column) for column in SCHEMAS["leaderboard"].names}
    row = known | {
        "rank": rank,
        "metric": metric.value,
        "image_size": _image_size(trial),
        "head_init": json.loads(trial["spec"] or "{}").get("head_init"),
    }
    if scores is None or test is None:
        return row
    row |= {
        "test_score": test.mean,
        "test_accuracy": scores.accuracy(),
        "test_ci_low": test.low,
        "test_ci_high": test.high,
        "repeats": len(scores.repeats),
    }
    difference = scores.minus(best) if best else None
    if difference is not None:
        row |= {
            "diff_to_best": difference.mean,
            "diff_ci_low": difference.low,
            "diff_ci_high": difference.high,
            "tied_with_best": difference.holds_zero,
        }
    return row


def _collapsed(finals: pa.Table) -> dict[str, int]:
    """Return the number of refits that collapsed at their learning rate, by trial id."""
    counts: dict[str, int] = {}
    for row in finals.select(["trial_id", "lr_factor"]).to_pylist():
        if row["lr_factor"] is not None:
            counts[row["trial_id"]] = counts.get(row["trial_id"], 0) + (row["lr_factor"] < 1)
    return counts


def _image_size(trial: Row) -> int | None:
    """Return the side of the images in pixels; tables of 0.1.0 have it only in the spec."""
    if trial["image_size"] is not None:
        return int(trial["image_size"])
    return image_size_in(json.loads(trial["spec"] or "{}"))


def image_size_in(spec: Mapping[str, Any]) -> int | None:
    """Return the side of the images in pixels in the spec of a trial or baseline.

    None if it has none: a baseline then uses the image size of its backbone's weights.
    """
    size = spec.get("image_size")
    return size if isinstance(size, int) else None


def text_inputs_in(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return how texts are read in the resolved spec of a trial or baseline, by column.

    None where that is not resolved, or the examples are no texts.
    """
    size = SIZES["text"]
    found = {name: spec.get(name, DEFAULTS[name]) for name in (size, *READINGS["text"])}
    known = isinstance(found[size], int)
    return {name: value if known and value != AUTO else None for name, value in found.items()}
