"""Phrases for rows of the leaderboard: configurations, label budgets, scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.recording.statistics.intervals import Interval
from orchestrator.recording.user_attributes import budget_unit
from orchestrator.text import configuration, difference_unit, differing_inputs, score
from trainable.spec.metrics import Metric

Row = Mapping[str, Any]


def named(row: Row, study: Sequence[Row]) -> str:
    """Return a configuration in words.

    What the network sees is included as far as the backbone was tried with several, such as sizes
    of images.

    Args:
        row: row of the configuration.
        study: rows of the leaderboard at its label budget.
    """
    alike = [other for other in study if other["backbone"] == row["backbone"]]
    return configuration(row, inputs=differing_inputs(alike))


def collapses(row: Row) -> list[str]:
    """Return a clause about the repeats whose training collapsed, if any of them count."""
    if not row["collapsed"] or row["repeats"] is None:
        return []
    return [
        f"training collapsed in {row['collapsed']} of {counted(row['repeats'], 'repeat')} at this "
        "rate, and was repeated at lower ones or left at its start"
    ]


def interval_ends(row: Row) -> str:
    """Return the two ends of the 95 % interval of a test score."""
    low, high = (score(row[end], row["metric"]) for end in ("test_ci_low", "test_ci_high"))
    return f"{low} to {high}"


def budget_label(row: Row) -> str:
    """Return the labels per class as a number, or the name of another budget."""
    if row["study"] == "all" or row["label_budget"] is None:
        return str(row["study"])
    return f"{row['label_budget']:.4g}"


def at_budget(row: Row) -> str:
    """Return the label budget as the start of a sentence."""
    budget = budget_label(row)
    if budget == "all":
        used = row["labels_used"]
        return "With all labels" if used is None else f"With all {counted(used, 'label')}"
    unit = budget_unit(row)
    return f"At {budget} {'label per class' if budget == '1' else unit}"


def difference_with_interval(interval: Interval, metric: str) -> str:
    """Return a difference with its interval; differences of shares in percentage points."""
    factor, digits = (100, 1) if Metric(metric).is_share else (1, 3)
    mean, low, high = (round(factor * value, digits) + 0.0 for value in interval)
    unit = difference_unit(metric)
    return f"{mean:+.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
