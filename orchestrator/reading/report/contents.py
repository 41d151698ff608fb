"""Contents of a report as plain values, computed from the tables of a sweep.

Shares are in 0..1 and times in seconds; rounding is left to the page and the figures.
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
from orchestrator.recording.user_attributes import budget_unit
from trainable.spec.metrics import Metric

Row = Mapping[str, Any]

MOST_CURVES = 240
"""Learning curves drawn per budget: half of them the best, the others evenly from the rest."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Test scores over label budgets of one backbone fine-tuned, its probe, or raw pixels.

    Attributes:
        method: `finetune`, `probe` or `pixels`.
        backbone: its name; None for pixels.
        points: leaderboard rows, one per budget, in ascending order.
    """

    method: str
    backbone: str | None
    points: list[Row]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One fine-tuning trial that has settled.

    Attributes:
        trial_id: id of the trial.
        backbone: its name.
        state: `complete`, `pruned` or `failed`.
        freeze_depth: share of boundaries frozen.
        lr: learning rate.
        val_objective: objective in validation, which ranks it.
        val_share: accuracy in validation; of masks the objective, where it is a share.
        duration_s: wall-clock time of its last attempt, in seconds.
    """

    trial_id: str
    backbone: str
    state: str
    freeze_depth: float | None
    lr: float | None
    val_objective: float | None
    val_share: float | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The reports of one trial.

    Attributes:
        point: the trial.
        steps: updates made before each report.
        shares: score in validation at each report; see `Point.val_share`.
    """

    point: Point
    steps: list[int]
    shares: list[float | None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The study of one label budget.

    Attributes:
        name: name of the study.
        label_budget: number of labels.
        unit: what that number counts, such as `labels per class`.
        maximize: whether a larger objective is better.
        points: its fine-tuning trials, in the order of their numbers.
        curves: curves of the trials that are shown.
        num_curves: trials with reports, shown or not.
    """

    name: str
    label_budget: float
    unit: str
    maximize: bool
    points: list[Point]
    curves: list[Curve]
    num_curves: int

    @property
    def label(self) -> str:
        """The budget in a word or two."""
        return "all labels" if self.name == "all" else f"{self.label_budget:.4g} {self.unit}"

    @property
    def front(self) -> list[Point]:
        """Pareto front of duration and accuracy among complete trials, the quickest first."""
        found: list[Point] = []
        for point in sorted(
            (p for p in self.points if p.state == "complete" and _is_placed(p)),
            key=lambda p: (p.duration_s, -(p.val_share or 0.0)),
        ):
            if not found or (point.val_share or 0.0) > (found[-1].val_share or 0.0):
                found.append(point)
        return found


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The cost of one label budget.

    Attributes:
        study: name of the study.
        states: number of trials by state.
        trials_s: seconds of its trials, summed over slots.
        finals_s: seconds of finals and baselines, summed over slots.
        steps: updates made by its trials.
        planned_steps: updates without pruning and failures.
    """

    study: str
    states: Mapping[str, int]
    trials_s: float
    finals_s: float
    steps: int
    planned_steps: int


def series(rows: Iterable[Row]) -> list[Series]:
    """Return test scores over budgets, of the best ranked tested row per backbone and method.

    Args:
        rows: rows of the leaderboard, in its order.

    Returns:
        Fine-tuned backbones first, then probes, then baselines without a backbone; each in the
        order of the rows.
    """
    found: dict[tuple[str, str | None], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["test_score"] is not None:
            found[row["method"], row["backbone"]].setdefault(row["study"], row)
    order: dict[str, int] = {Method.FINETUNE: 0, Method.PROBE: 1}
    return [
        Series(method=method, backbone=backbone, points=list(points.values()))
        for (method, backbone), points in sorted(
            found.items(), key=lambda item: order.get(item[0][0], len(order))
        )
    ]


def studies(trials: pa.Table, curves: pa.Table, *, metric: Metric) -> list[Study]:
    """Return the label budgets of a sweep in ascending order, with their fine-tuning trials."""
    tuned = trials.filter(pc.equal(trials["method"], Method.FINETUNE))
    tuned = tuned.append_column("val_share", _shares(tuned, metric))
    names = ["study", "label_budget", *Point.__dataclass_fields__]
    points: dict[tuple[float, str], list[Point]] = defaultdict(list)
    for row in tuned.select(names).to_pylist():
        place = (row.pop("label_budget"), row.pop("study"))
        points[place].append(Point(**row))
    reports = _reports(curves, metric)
    unit = budget_unit(trials.slice(0, 1).to_pylist()[0]) if trials.num_rows else ""
    maximize = metric.maximize
    found = []
    for (label_budget, name), some in sorted(points.items()):
        reported = [point for point in some if point.trial_id in reports]
        chosen = _spread(reported, maximize=maximize)
        found.append(
            Study(
                name=name,
                label_budget=label_budget,
                unit=unit,
                maximize=maximize,
                points=some,
                curves=[
                    Curve(point=point, steps=steps, shares=shares)
                    for point in chosen
                    for steps, shares in [reports[point.trial_id]]
                ],
                num_curves=len(reported),
            )
        )
    return found


def spent(trials: pa.Table, finals: pa.Table) -> list[Spent]:
    """Return the cost of each label budget, in ascending order of labels."""
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


def _shares(table: pa.Table, metric: Metric) -> pa.ChunkedArray:
    """Return the accuracy in validation, or the objective where there is none and it is a share."""
    if not metric.is_share:
        return table["val_accuracy"]
    return pc.coalesce(table["val_accuracy"], table["val_objective"])


def _reports(curves: pa.Table, metric: Metric) -> dict[str, tuple[list[int], list[float | None]]]:
    """Return steps and validation scores by trial; see `Point.val_share`."""
    ordered = curves.sort_by([("trial_id", "ascending"), ("report", "ascending")])
    trial_ids = np.array(ordered["trial_id"].to_pylist(), dtype=object)
    steps, shares = ordered["step"].to_pylist(), _shares(ordered, metric).to_pylist()
    starts = np.flatnonzero(np.r_[[True] * len(trial_ids[:1]), trial_ids[1:] != trial_ids[:-1]])
    return {
        trial_ids[start]: (steps[start:stop], shares[start:stop])
        for start, stop in pairwise([*starts.tolist(), len(trial_ids)])
    }


def _spread(points: Sequence[Point], *, maximize: bool) -> list[Point]:
    """Return at most `MOST_CURVES` of the trials: the best half, then others at equal steps."""
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
    return point.duration_s is not None and point.val_share is not None
