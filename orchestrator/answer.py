"""The answer of a sweep in a few lines of plain words, from its leaderboard alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.intervals import Interval, separate_difference
from orchestrator.leaderboard import picks
from trainable.spec import Metric

Row = Mapping[str, Any]

_FEW_LABELS = 3
"""Below this many labels per class, validation scores hardly order configurations."""

_WARNING = "below 3 labels per class cross-validation says little about which one is best"


def answer(
    rows: Sequence[Row],
    *,
    num_test: int | None,
    objective: str,
    run: str,
    report: str | None = None,
) -> list[str]:
    """What to use, whether it was worth it, what more labels would buy, and where to look next.

    Args:
        rows: of the leaderboard, in its order.
        num_test: images of the test set; None where it is unknown.
        objective: the metric that ranked the configurations.
        run: the sweep directory, as the user would type it.
        report: the HTML file in it; None where there is none.

    Returns:
        At most five lines. Shares are in percent, differences in percentage points.
    """
    where = f"Tables and journal: {run}"
    if report is not None:
        where = f"Report: {report}, tables and journal beside it"
    chosen = picks(rows)
    if not chosen:
        return [
            "No trial completed, so there is nothing to recommend.",
            *_best_baseline(rows),
            where,
            f"Next: sft-sweep status {shlex.quote(run)} says why; "
            f"sft-sweep resume {shlex.quote(run)} tries again",
        ]
    pick = chosen[-1]
    return [
        _recommend(pick, rows, num_test=num_test, objective=objective),
        _compare_with_probe(pick, rows),
        _more_labels(chosen),
        where,
        f"Next: sft-sweep leaderboard {shlex.quote(run)} for more ranks, "
        f"sft-sweep export {shlex.quote(run)} -o DIR for the model",
    ]


def _recommend(pick: Row, rows: Sequence[Row], *, num_test: int | None, objective: str) -> str:
    """What to use at the largest budget and how sure that is."""
    parts = [f"{_at_budget(pick)} use {pick['backbone']}"]
    if pick["freeze_depth"] is not None:
        parts.append(f"freeze depth {pick['freeze_depth']:.3g}")
    if pick["lr"] is not None:
        parts.append(f"lr {pick['lr']:.2g}")
    text = f"{', '.join(parts)}: {_score(pick, num_test=num_test, objective=objective)}"
    if pick["rank"] > 1:
        text += f"; rank {pick['rank']} by validation, the first with a test score"
    ties = sum(
        row["study"] == pick["study"]
        and row["rank"] not in (None, pick["rank"])
        and row["tied_with_best"] is True
        for row in rows
    )
    if ties:
        text += f"; {ties} {'other' if ties == 1 else 'others'} cannot be told apart from it"
    if rows[-1]["study"] != pick["study"]:
        text += "; no trial completed at a larger budget"
    return f"{text}; {_WARNING}" if _is_small(pick) else text


def _score(pick: Row, *, num_test: int | None, objective: str) -> str:
    """The test accuracy with its interval, or what there is instead."""
    if pick["test_accuracy"] is None:
        if pick["val_accuracy"] is None:
            return "no test score, so how good it is remains open"
        images = "" if pick["num_val"] is None else f" ({_count(pick['num_val'], 'image')})"
        return (
            f"{_percent(pick['val_accuracy'])} % in validation{images}, which flatters the best "
            "of many; no finalist was scored on the test set"
        )
    details = [
        f"{_percent(pick['test_ci_low'])} to {_percent(pick['test_ci_high'])}",
        _count(pick["repeats"], "repeat") + (" of the seed alone" if _takes_all(pick) else ""),
    ]
    if num_test is not None:
        details.append(_count(num_test, "test image"))
    text = f"on the test set ({', '.join(details)})"
    if objective == Metric.ACCURACY:
        return f"{_percent(pick['test_accuracy'])} % {text}"
    chosen_by = objective.replace("_", " ")
    return f"{_percent(pick['test_accuracy'])} % accuracy {text}, chosen by {chosen_by}"


def _compare_with_probe(pick: Row, rows: Iterable[Row]) -> str:
    """Whether fine-tuning was worth it over the best linear probe of the same budget."""
    probes = [row for row in rows if row["study"] == pick["study"] and row["method"] == "probe"]
    if not probes:
        return (
            "Whether fine-tuning beats a linear probe is open: none was run "
            "(`baselines: [probe]` in the search space)"
        )
    scored = [probe for probe in probes if probe["diff_to_best"] is not None]
    if not scored:
        return "Whether fine-tuning beats a linear probe is open: there are no test scores of both"
    probe = scored[0]
    gain = Interval(-probe["diff_to_best"], -probe["diff_ci_high"], -probe["diff_ci_low"])
    verb = "beats" if gain.low > 0 else "loses to" if gain.high < 0 else "does not beat"
    return f"Fine-tuning {verb} the best linear probe ({probe['backbone']}): {_gain(gain)}"


def _more_labels(chosen: Sequence[Row]) -> str:
    """What each larger budget added in test accuracy."""
    if len(chosen) < 2:
        return (
            "What more labels would buy is open: one label budget has results "
            "(list several under `label_budget`)"
        )
    scored = [pick for pick in chosen if pick["test_accuracy"] is not None]
    if len(scored) < 2:
        return "What more labels would buy is open: fewer than two budgets have a test score"
    steps = [
        f"{_budget(fewer)} -> {_budget(more)}: "
        f"{_gain(separate_difference(_test_interval(more), _test_interval(fewer)))}"
        for fewer, more in pairwise(scored)
    ]
    text = f"More labels per class: {'; '.join(steps)}"
    return f"{text}; {_WARNING}" if _is_small(scored[0]) and not _is_small(chosen[-1]) else text


def _best_baseline(rows: Sequence[Row]) -> list[str]:
    """One line about the best baseline of the largest budget that has one with a test score."""
    scored = [row for row in rows if row["test_accuracy"] is not None]
    if not scored:
        return []
    best = next(row for row in scored if row["study"] == scored[-1]["study"])
    name = "raw pixels" if best["method"] == "pixels" else f"a linear probe of {best['backbone']}"
    low, high = _percent(best["test_ci_low"]), _percent(best["test_ci_high"])
    return [
        f"{_at_budget(best)} {name} reaches {_percent(best['test_accuracy'])} % "
        f"on the test set ({low} to {high})"
    ]


def _takes_all(row: Row) -> bool:
    """Whether the budget is `all`, which leaves repeats nothing else to draw."""
    return bool(row["study"] == "all")


def _test_interval(row: Row) -> Interval:
    return Interval(row["test_accuracy"], row["test_ci_low"], row["test_ci_high"])


def _is_small(row: Row) -> bool:
    budget = row["label_budget"]
    return budget is not None and budget < _FEW_LABELS


def _budget(row: Row) -> str:
    """Labels per class as a number, or `all`."""
    if row["study"] == "all" or row["label_budget"] is None:
        return str(row["study"])
    return f"{row['label_budget']:.4g}"


def _at_budget(row: Row) -> str:
    """The budget as the start of a sentence."""
    budget = _budget(row)
    if budget == "all":
        used = row["labels_used"]
        return "With all labels" if used is None else f"With all {_count(used, 'label')}"
    return f"At {budget} {'label' if budget == '1' else 'labels'} per class"


def _gain(interval: Interval) -> str:
    """A difference in percentage points with its interval."""
    mean, low, high = (round(100 * value, 1) + 0.0 for value in interval)
    return f"{mean:+.1f} points ({low:.1f} to {high:.1f})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
