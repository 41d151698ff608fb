"""The answer of a sweep in a few lines of plain words, from its leaderboard alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from orchestrator.methods import Method
from orchestrator.recording.leaderboard import own_probe, recommended_rows
from orchestrator.statistics.intervals import Interval, separate_difference
from orchestrator.text import (
    configuration,
    difference_unit,
    metric_name,
    score,
    score_difference,
    score_with_unit,
)
from trainable.spec.trial_spec import Metric

Row = Mapping[str, Any]

_FEW_LABELS = 3
"""Below this many labels per class, validation scores hardly order configurations."""

_WARNING = "below 3 labels per class cross-validation says little about which one is best"


def answer(
    rows: Sequence[Row], *, num_test: int | None, run: str, report: str | None = None
) -> list[str]:
    """What to use, whether it was worth it, what more labels would buy, and where to look next.

    What is recommended, and what is compared with what, follows from validation alone; test scores
    decide no more than the numbers, and whether a difference counts as one.

    Args:
        rows: of the leaderboard, in its order.
        num_test: images of the test set; None where it is unknown.
        run: the sweep directory, as the user would type it.
        report: the HTML file in it; None where there is none.

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
            *_raw_pixels(rows),
            where,
            f"Next: sft-sweep status {shlex.quote(run)} says why; "
            f"sft-sweep resume {shlex.quote(run)} tries again",
        ]
    pick = chosen[-1]
    study = [row for row in rows if row["study"] == pick["study"]]
    return [
        _recommend(pick, study, num_test=num_test, is_last=rows[-1]["study"] == pick["study"]),
        _compare_with_probe(pick, study),
        _more_labels(chosen),
        where,
        f"Next: sft-sweep leaderboard {shlex.quote(run)} for more ranks, "
        f"sft-sweep export {shlex.quote(run)} -o DIR for the model",
    ]


def _recommend(pick: Row, study: Sequence[Row], *, num_test: int | None, is_last: bool) -> str:
    """What to use at the largest budget and how sure that is."""
    article = "the " if pick["method"] == Method.PROBE else ""
    name = f"{article}{_named(pick, study)}"
    parts = [f"{_at_budget(pick)} use {name}: {_test_score(pick, num_test=num_test)}"]
    if pick["test_score"] is not None:
        parts.append(_chosen_by(pick))
    if pick["rank"] > 1:
        parts.append(f"rank {pick['rank']} by validation, the first with a test score")
    if pick["method"] == Method.PROBE:
        parts += _without_fine_tuning(pick, study)
    parts += _ties(pick, study)
    if not is_last:
        parts.append("no trial completed at a larger budget")
    if _is_small(pick):
        parts.append(_WARNING)
    return "; ".join(parts)


def _named(row: Row, study: Sequence[Row]) -> str:
    """A configuration in words, with its image size where its backbone was tried at several."""
    sizes = {other["image_size"] for other in study if other["backbone"] == row["backbone"]}
    return configuration(row, with_size=len(sizes - {None}) > 1)


def _test_score(pick: Row, *, num_test: int | None) -> str:
    """The test score with its interval, or what there is instead."""
    metric = pick["metric"]
    name = "" if metric == Metric.ACCURACY else f"{metric_name(metric)} "
    if pick["test_score"] is None:
        if pick["val_objective"] is None:
            return "no test score, so how good it is remains open"
        images = "" if pick["num_val"] is None else f" ({_count(pick['num_val'], 'image')})"
        return (
            f"{name}{score_with_unit(pick['val_objective'], metric)} in validation{images}, which "
            "flatters the best of many; no finalist was scored on the test set"
        )
    details = [
        _ends(pick),
        _count(pick["repeats"], "repeat") + (" of the seed alone" if _takes_all(pick) else ""),
    ]
    if num_test is not None:
        details.append(_count(num_test, "test image"))
    value = score_with_unit(pick["test_score"], metric)
    return f"{name}{value} on the test set ({', '.join(details)})"


def _ends(row: Row) -> str:
    """The two ends of the interval around a test score."""
    low, high = (score(row[end], row["metric"]) for end in ("test_ci_low", "test_ci_high"))
    return f"{low} to {high}"


def _chosen_by(pick: Row) -> str:
    """How many labels of validation stand behind the rank."""
    labels = "" if pick["num_val"] is None else f" on {_count(pick['num_val'], 'label')}"
    return f"chosen by {metric_name(pick['metric'])} in validation{labels}"


def _without_fine_tuning(pick: Row, study: Sequence[Row]) -> list[str]:
    """What is said of fine-tuning where a probe is the pick."""
    tuned = [row for row in study if row["method"] == Method.FINETUNE]
    if not tuned:
        return ["no fine-tuned trial completed at this budget"]
    if tuned[0]["rank"] < pick["rank"]:
        return []
    return ["by validation fine-tuning gains nothing over it"]


def _ties(pick: Row, study: Sequence[Row]) -> list[str]:
    """How many of the others cannot be told apart from the pick."""
    tested = [
        row["tied_with_best"]
        for row in study
        if row["rank"] not in (None, pick["rank"]) and row["tied_with_best"] is not None
    ]
    if not tested:
        return []
    return [f"cannot be told apart from {sum(tested)} of {_count(len(tested), 'other')} tested"]


def _compare_with_probe(pick: Row, study: Sequence[Row]) -> str:
    """Whether the best fine-tuned configuration beats the best linear probe, both by validation."""
    tuned, probe = (
        next(iter(recommended_rows(study, method=method)), None)
        for method in (Method.FINETUNE, Method.PROBE)
    )
    if tuned is None:
        return (
            "Whether fine-tuning gains anything is open: no fine-tuned trial completed at this "
            "budget"
        )
    return "; ".join([_fine_tuning_against(tuned, probe, pick, study), *_over_start(tuned)])


def _fine_tuning_against(tuned: Row, probe: Row | None, pick: Row, study: Sequence[Row]) -> str:
    """How the best fine-tuned configuration does beside the best probe."""
    if probe is None:
        return (
            "Whether fine-tuning beats a linear probe is open: none was run "
            "(`baselines: [probe]` in the search space)"
        )
    gain = _difference(tuned, probe, pick=pick)
    if gain is None:
        return "Whether fine-tuning beats a linear probe is open: there are no test scores of both"
    sign = 1 if Metric(pick["metric"]).maximize else -1
    better, worse = (gain.low > 0, gain.high < 0)[::sign]
    verb = "beats" if better else "loses to" if worse else "does not beat"
    which = ""
    if tuned["trial_id"] != pick["trial_id"]:
        passed = _passed_over(tuned, study)
        which = f" ({_named(tuned, study)}{passed and f', the best{passed}'})"
    text = (
        f"Fine-tuning{which} {verb} the {_named(probe, study)}, the best probe by validation"
        f"{_passed_over(probe, study)}: {_gain(gain, pick['metric'])}"
    )
    own = own_probe(tuned, study)
    if own is None or own["trial_id"] == probe["trial_id"] or own["test_score"] is None:
        return text
    over = _difference(tuned, own, pick=pick)
    beside = f"the {_named(own, study)}, the probe of its own backbone"
    if over is not None:
        return f"{text}; over {beside}: {_gain(over, pick['metric'])}"
    return f"{text}; {beside}: {score_with_unit(own['test_score'], own['metric'])} ({_ends(own)})"


def _over_start(tuned: Row) -> list[str]:
    """What training added to the start of a configuration, by validation, where that is known."""
    gain, metric = tuned["gain_over_start"], tuned["metric"]
    if gain is None:
        return []
    start = "the linear probe" if tuned["head_init"] == "logistic" else "a head of zeros"
    amount = score_difference(abs(gain), metric)[1:]
    if not float(amount):
        return [f"training gained nothing over its start, {start}, by validation"]
    verb = "gained" if gain > 0 else "lost"
    side = "over" if gain > 0 else "against"
    return [
        f"training {verb} {amount} {difference_unit(metric)} {side} its start, {start}, "
        "by validation"
    ]


def _passed_over(row: Row, study: Sequence[Row]) -> str:
    """What is said where better ones of the same method have no test score."""
    first = next(other for other in study if other["method"] == row["method"])
    return "" if first["trial_id"] == row["trial_id"] else " with a test score"


def _difference(tuned: Row, probe: Row, *, pick: Row) -> Interval | None:
    """The test score of `tuned` less that of `probe`, if one of them is the pick.

    Differences in a leaderboard are to the first ranked row with a test score, which is the pick.
    """
    one, other = tuned["trial_id"], probe["trial_id"]
    if pick["trial_id"] not in (one, other):
        return None
    row = probe if pick["trial_id"] == one else tuned
    if row["diff_to_best"] is None:
        return None
    interval = Interval(row["diff_to_best"], row["diff_ci_low"], row["diff_ci_high"])
    return interval.negated if row is probe else interval


def _more_labels(chosen: Sequence[Row]) -> str:
    """What each larger budget added in test score."""
    if len(chosen) < 2:
        return (
            "What more labels would buy is open: one label budget has results "
            "(list several under `label_budget`)"
        )
    scored = [pick for pick in chosen if pick["test_score"] is not None]
    if len(scored) < 2:
        return "What more labels would buy is open: fewer than two budgets have a test score"
    steps = [
        f"{_budget(fewer)} -> {_budget(more)}: "
        f"{_gain(separate_difference(_interval(more), _interval(fewer)), more['metric'])}"
        for fewer, more in pairwise(scored)
    ]
    text = f"More labels per class: {'; '.join(steps)}"
    return f"{text}; {_WARNING}" if _is_small(scored[0]) and not _is_small(chosen[-1]) else text


def _raw_pixels(rows: Sequence[Row]) -> list[str]:
    """One line about raw pixels at the largest budget where they have a test score."""
    scored = [row for row in rows if row["test_score"] is not None]
    if not scored:
        return []
    last = scored[-1]
    name = "" if last["metric"] == Metric.ACCURACY else f"a {metric_name(last['metric'])} of "
    return [
        f"{_at_budget(last)} {configuration(last)} reach {name}"
        f"{score_with_unit(last['test_score'], last['metric'])} on the test set ({_ends(last)})"
    ]


def _takes_all(row: Row) -> bool:
    """Whether the budget is `all`, which leaves repeats nothing else to draw."""
    return bool(row["study"] == "all")


def _interval(row: Row) -> Interval:
    return Interval(row["test_score"], row["test_ci_low"], row["test_ci_high"])


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


def _gain(interval: Interval, metric: str) -> str:
    """A difference with its interval: of shares in percentage points."""
    factor, digits = (100, 1) if Metric(metric).is_share else (1, 3)
    mean, low, high = (round(factor * value, digits) + 0.0 for value in interval)
    unit = difference_unit(metric)
    return f"{mean:+.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
