"""The answer of a sweep in a few plain lines, from its leaderboard alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.methods import WITHOUT_BACKBONE_METHODS, Method
from orchestrator.reading.phrases import (
    at_budget,
    budget_label,
    counted,
    difference_with_interval,
    interval_ends,
    named,
)
from orchestrator.reading.probe_comparison import compare_with_probe
from orchestrator.recording.leaderboard import recommended_rows
from orchestrator.recording.statistics.intervals import Interval, separate_difference
from orchestrator.recording.user_attributes import budget_unit
from orchestrator.text import configuration, metric_name, noun_of, score_with_unit
from trainable.spec.metrics import Metric

Row = Mapping[str, Any]

_FEW_LABELS = 3
"""Below this number of labels per class, validation scores hardly order configurations."""

_WARNING = "below 3 {} cross-validation says little about which one is best"


def answer(
    rows: Sequence[Row], *, num_test: int | None, run: str, report: str | None = None
) -> list[str]:
    """Return the recommendation, its gain over a probe, the effect of labels, and next commands.

    Validation alone decides the recommendation and the rows that are compared. Test scores give
    the numbers, and decide whether a difference is significant.

    Args:
        rows: rows of the leaderboard, in its order.
        num_test: number of test examples; None if unknown.
        run: the sweep directory, as the user would type it.
        report: the HTML file in it; None if there is none.

    Returns:
        At most five lines. Shares are in percent, their differences in percentage points.
    """
    where = f"Tables and journal: {run}"
    if report is not None:
        where = f"Report: {report}, tables and journal beside it"
    chosen = recommended_rows(rows)
    if not chosen:
        return [
            "No trial completed, so there is nothing to recommend.",
            *_without_backbone(rows),
            where,
            f"Next: sft-sweep status {shlex.quote(run)} says why; "
            f"sft-sweep resume {shlex.quote(run)} tries again",
        ]
    pick = chosen[-1]
    study = [row for row in rows if row["study"] == pick["study"]]
    return [
        _recommend(pick, study, num_test=num_test, is_last=rows[-1]["study"] == pick["study"]),
        compare_with_probe(pick, study),
        _more_labels(chosen),
        where,
        f"Next: sft-sweep leaderboard {shlex.quote(run)} for more ranks, "
        f"sft-sweep export {shlex.quote(run)} -o DIR for the model",
    ]


def _recommend(pick: Row, study: Sequence[Row], *, num_test: int | None, is_last: bool) -> str:
    """Return the line that recommends a configuration at the largest budget with results."""
    article = "the " if pick["method"] == Method.PROBE else ""
    name = f"{article}{named(pick, study)}"
    parts = [f"{at_budget(pick)} use {name}: {_test_score(pick, num_test=num_test)}"]
    if pick["test_score"] is not None:
        parts.append(_chosen_by(pick))
    if pick["rank"] > 1:
        parts.append(f"rank {pick['rank']} by validation, the first with a test score")
    if pick["method"] == "probe":
        parts += _without_fine_tuning(pick, study)
    parts += _ties(pick, study)
    parts += _beaten_without_backbone(study)
    if not is_last:
        parts.append("no trial completed at a larger budget")
    if _is_small(pick):
        parts.append(_WARNING.format(budget_unit(pick)))
    return "; ".join(parts)


def _test_score(pick: Row, *, num_test: int | None) -> str:
    """Return the test score with its interval, or the validation score if there is none."""
    metric = pick["metric"]
    name = "" if metric == Metric.ACCURACY else f"{metric_name(metric)} "
    if pick["test_score"] is None:
        if pick["val_objective"] is None:
            return "no test score, so how good it is remains open"
        images = "" if pick["num_val"] is None else f" ({counted(pick['num_val'], noun_of(pick))})"
        return (
            f"{name}{score_with_unit(pick['val_objective'], metric)} in validation{images}, which "
            "flatters the best of many; no finalist was scored on the test set"
        )
    details = [
        interval_ends(pick),
        counted(pick["repeats"], "repeat") + (" of the seed alone" if _takes_all(pick) else ""),
    ]
    if num_test is not None:
        details.append(counted(num_test, f"test {noun_of(pick)}"))
    value = score_with_unit(pick["test_score"], metric)
    return f"{name}{value} on the test set ({', '.join(details)})"


def _chosen_by(pick: Row) -> str:
    """Return the metric and the number of validation labels that decided the rank."""
    labels = "" if pick["num_val"] is None else f" on {counted(pick['num_val'], 'label')}"
    return f"chosen by {metric_name(pick['metric'])} in validation{labels}"


def _without_fine_tuning(pick: Row, study: Sequence[Row]) -> list[str]:
    """Return a clause about fine-tuning if a probe is recommended."""
    tuned = [row for row in study if row["method"] == Method.FINETUNE]
    if not tuned:
        return ["no fine-tuned trial completed at this budget"]
    if tuned[0]["rank"] < pick["rank"]:
        return []
    return ["by validation fine-tuning gains nothing over it"]


def _ties(pick: Row, study: Sequence[Row]) -> list[str]:
    """Return a clause about the tested configurations that are tied with the recommended one."""
    tested = [
        row["tied_with_best"]
        for row in study
        if row["rank"] not in (None, pick["rank"]) and row["tied_with_best"] is not None
    ]
    if not tested:
        return []
    return [f"cannot be told apart from {sum(tested)} of {counted(len(tested), 'other')} tested"]


def _beaten_without_backbone(study: Sequence[Row]) -> list[str]:
    """Return a clause about a baseline without a backbone that is better on the test set."""
    clauses = []
    for row in study:
        if row["method"] not in WITHOUT_BACKBONE_METHODS or row["diff_to_best"] is None:
            continue
        lead = Interval(row["diff_to_best"], row["diff_ci_low"], row["diff_ci_high"])
        if lead.low > 0 if Metric(row["metric"]).maximize else lead.high < 0:
            gain = difference_with_interval(lead, row["metric"])
            clauses.append(f"but {configuration(row)}, without any backbone: {gain}")
    return clauses


def _more_labels(chosen: Sequence[Row]) -> str:
    """Return the line about the gain in test score of each larger budget."""
    if len(chosen) < 2:
        return (
            "What more labels would buy is open: one label budget has results "
            "(list several under `label_budget`)"
        )
    scored = [pick for pick in chosen if pick["test_score"] is not None]
    if len(scored) < 2:
        return "What more labels would buy is open: fewer than two budgets have a test score"
    steps = [_budget_step(fewer, more) for fewer, more in pairwise(scored)]
    text = f"More {budget_unit(chosen[0])}: {'; '.join(steps)}"
    warning = _WARNING.format(budget_unit(scored[0]))
    return f"{text}; {warning}" if _is_small(scored[0]) and not _is_small(chosen[-1]) else text


def _budget_step(fewer: Row, more: Row) -> str:
    """Return the gain in test score from one label budget to the next one."""
    gain = separate_difference(_interval(more), _interval(fewer))
    return (
        f"{budget_label(fewer)} -> {budget_label(more)}: "
        f"{difference_with_interval(gain, more['metric'])}"
    )


def _without_backbone(rows: Sequence[Row]) -> list[str]:
    """Return one line about the baseline without a backbone, at the largest budget tested."""
    scored = [row for row in rows if row["test_score"] is not None]
    if not scored:
        return []
    last = scored[-1]
    name = "" if last["metric"] == Metric.ACCURACY else f"a {metric_name(last['metric'])} of "
    return [
        f"{at_budget(last)} {configuration(last)} reach {name}"
        f"{score_with_unit(last['test_score'], last['metric'])} on the test set "
        f"({interval_ends(last)})"
    ]


def _takes_all(row: Row) -> bool:
    """Return whether the budget is `all`, so that every repeat draws the same labels."""
    return bool(row["study"] == "all")


def _is_small(row: Row) -> bool:
    budget = row["label_budget"]
    return budget is not None and budget < _FEW_LABELS


def _interval(row: Row) -> Interval:
    return Interval(row["test_score"], row["test_ci_low"], row["test_ci_high"])
