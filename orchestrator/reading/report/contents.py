"""What a report says: computed from the tables of a sweep, as plain values.

Shares are in 0..1 and times in seconds; rounding is left to what shows them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.methods import Method

Row = Mapping[str, Any]

MOST_CURVES = 240
"""Learning curves drawn for each budget: half of them the best, the others spread over the rest."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Test scores over label budgets, of one backbone fine-tuned, its probe, or raw pixels.

    Attributes:
        method: `finetune`, `probe` or `pixels`.
        backbone: its name; None for pixels.
        points: leaderboard rows, one a budget, in ascending order.
    """

    method: str
    backbone: str | None
    points: list[Row]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One fine-tuning trial that has settled.

    Attributes:
        trial_id: of it.
        backbone: its name.
        state: `complete`, `pruned` or `failed`.
        freeze_depth: share of boundaries frozen.
        lr: learning rate.
        val_objective: by which it is ranked.
        val_accuracy: by validation.
        duration_s: time of the trial.
    """

    trial_id: str
    backbone: str
    state: str
    freeze_depth: float | None
    lr: float | None
    val_objective: float | None
    val_accuracy: float | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What one trial reported.

    Attributes:
        point: the trial.
        steps: updates made by each report.
        accuracies: by validation.
    """

    point: Point
    steps: list[int]
    accuracies: list[float | None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One label budget.

    Attributes:
        name: of the study.
        label_budget: labels per class.
        maximize: whether a larger objective is better.
        points: its fine-tuning trials, in the order of their numbers.
        curves: of the trials that are shown.
        num_curves: trials with reports, shown or not.
    """

    name: str
    label_budget: float
    maximize: bool
    points: list[Point]
    curves: list[Curve]
    num_curves: int

    @property
    def label(self) -> str:
        """The budget in a word or two."""
        return "all labels" if self.name == "all" else f"{self.label_budget:.4g} labels per class"

    @property
    def front(self) -> list[Point]:
        """Complete trials that no quicker one equals in accuracy, the quickest first."""
        found: list[Point] = []
        for point in sorted(
            (p for p in self.points if p.state == "complete" and _is_placed(p)),
            key=lambda p: (p.duration_s, -(p.val_accuracy or 0.0)),
        ):
            if not found or (point.val_accuracy or 0.0) > (found[-1].val_accuracy or 0.0):
                found.append(point)
        return found


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one label budget cost.

    Attributes:
        study: its name.
        states: trials by state.
        trials_s: time of its trials, added up over slots.
        finals_s: time of finals and baselines, likewise.
        steps: updates made by its trials.
        planned_steps: updates that they would have made without pruning and failures.
    """

    study: str
    states: Mapping[str, int]
    trials_s: float
    finals_s: float
    steps: int
    planned_steps: int


def series(rows: Iterable[Row]) -> list[Series]:
    """Test scores over budgets: of each backbone the best ranked one that has a test score.

    Args:
        rows: of the leaderboard, in its order.

    Returns:
        Fine-tuned backbones first, then probes, then pixels; each in the order of first sight.
    """
    found: dict[tuple[str, str | None], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["test_score"] is not None:
            found[row["method"], row["backbone"]].setdefault(row["study"], row)
    order: dict[str, int] = {Method.FINETUNE: 0, Method.PROBE: 1, Method.PIXELS: 2}
    return [
        Series(method=method, backbone=backbone, points=list(points.values()))
        for (method, backbone), points in sorted(
            found.items(), key=lambda item: order.get(item[0][0], len(order))
        )
    ]


def studies(trials: pa.Table, curves: pa.Table, *, maximize: bool) -> list[Study]:
    """The label budgets of a sweep in ascending order, with their fine-tuning trials."""
    tuned = trials.filter(pc.equal(trials["method"], Method.FINETUNE))
    names = ["study", "label_budget", *Point.__dataclass_fields__]
    points: dict[tuple[float, str], list[Point]] = defaultdict(list)
    for row in tuned.select(names).to_pylist():
        place = (row.pop("label_budget"), row.pop("study"))
        points[place].append(Point(**row))
    reports = _reports(curves)
    found = []
    for (label_budget, name), some in sorted(points.items()):
        reported = [point for point in some if point.trial_id in reports]
        chosen = _spread(reported, maximize=maximize)
        found.append(
            Study(
                name=name,
                label_budget=label_budget,
                maximize=maximize,
                points=some,
                curves=[
                    Curve(point=point, steps=steps, accuracies=accuracies)
                    for point in chosen
                    for steps, accuracies in [reports[point.trial_id]]
                ],
                num_curves=len(reported),
            )
        )
    return found


def spent(trials: pa.Table, finals: pa.Table) -> list[Spent]:
    """What each label budget cost, in ascending order of labels."""
    columns = ["trial_id", "study", "label_budget", "method", "state", "steps", "spec"]
    rows = trials.select([*columns, "duration_s"]).to_pylist()
    of_trial = {row["trial_id"]: row["study"] for row in rows}
    finals_s: dict[str, float] = defaultdict(float)
    baselines = {row["trial_id"] for row in rows if row["method"] != Method.FINETUNE}
    for row in rows:
        if row["trial_id"] in baselines:
            finals_s[row["study"]] += row["duration_s"] or 0.0
    for row in finals.select(["trial_id", "duration_s"]).to_pylist():
        if row["trial_id"] not in baselines and row["trial_id"] in of_trial:
            finals_s[of_trial[row["trial_id"]]] += row["duration_s"] or 0.0
    order = sorted({(row["label_budget"], row["study"]) for row in rows})
    found = []
    for _, study in order:
        tuned = [row for row in rows if row["study"] == study and row["method"] == Method.FINETUNE]
        found.append(
            Spent(
                study=study,
                states=Counter(row["state"] for row in tuned),
                trials_s=sum(row["duration_s"] or 0.0 for row in tuned),
                finals_s=finals_s[study],
                steps=sum(row["steps"] or 0 for row in tuned),
                planned_steps=sum(_planned_steps(row["spec"]) for row in tuned),
            )
        )
    return found


def _reports(curves: pa.Table) -> dict[str, tuple[list[int], list[float | None]]]:
    """Steps and validation accuracies by trial."""
    ordered = curves.select(["trial_id", "report", "step", "val_accuracy"]).sort_by(
        [("trial_id", "ascending"), ("report", "ascending")]
    )
    trial_ids = np.array(ordered["trial_id"].to_pylist(), dtype=object)
    steps, accuracies = ordered["step"].to_pylist(), ordered["val_accuracy"].to_pylist()
    starts = np.flatnonzero(np.r_[[True] * len(trial_ids[:1]), trial_ids[1:] != trial_ids[:-1]])
    return {
        trial_ids[start]: (steps[start:stop], accuracies[start:stop])
        for start, stop in pairwise([*starts.tolist(), len(trial_ids)])
    }


def _spread(points: Sequence[Point], *, maximize: bool) -> list[Point]:
    """At most `MOST_CURVES` of some trials: the best half of them, then others at equal steps."""
    if len(points) <= MOST_CURVES:
        return list(points)
    sign = -1 if maximize else 1
    ranked = sorted(
        points,
        key=lambda p: (
            p.state != "complete",
            sign * p.val_objective if p.val_objective is not None else np.inf,
        ),
    )
    half = MOST_CURVES // 2
    others = np.linspace(half, len(ranked) - 1, MOST_CURVES - half).round().astype(int)
    return ranked[:half] + [ranked[position] for position in others]


def _planned_steps(spec: str | None) -> int:
    return int(json.loads(spec or "{}").get("steps", 0))


def _is_placed(point: Point) -> bool:
    return point.duration_s is not None and point.val_accuracy is not None
