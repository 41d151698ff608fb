"""One line that compares fine-tuning with linear probes and with its own start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.methods import Method
from orchestrator.reading.phrases import collapses, difference_with_interval, interval_ends, named
from orchestrator.recording.leaderboard import own_probe, recommended_rows
from orchestrator.recording.statistics.intervals import Interval
from orchestrator.text import difference_unit, score_difference, score_with_unit
from trainable.spec.metrics import Metric

Row = Mapping[str, Any]


def compare_with_probe(pick: Row, study: Sequence[Row]) -> str:
    """Return the line that compares the best fine-tuned configuration with the best probe.

    Both are the best by validation.

    Args:
        pick: the recommended row.
        study: rows of the leaderboard at its label budget.
    """
    tuned, probe = (
        next(iter(recommended_rows(study, method=method)), None)
        for method in (Method.FINETUNE, Method.PROBE)
    )
    if tuned is None:
        return (
            "Whether fine-tuning gains anything is open: no fine-tuned trial completed at this "
            "budget"
        )
    return "; ".join(
        [_fine_tuning_against(tuned, probe, pick, study), *_over_start(tuned), *collapses(tuned)]
    )


def _fine_tuning_against(tuned: Row, probe: Row | None, pick: Row, study: Sequence[Row]) -> str:
    """Return a clause that compares the best fine-tuned configuration with a probe."""
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
        which = f" ({named(tuned, study)}{passed and f', the best{passed}'})"
    text = (
        f"Fine-tuning{which} {verb} the {named(probe, study)}, the best probe by validation"
        f"{_passed_over(probe, study)}: {difference_with_interval(gain, pick['metric'])}"
    )
    own = own_probe(tuned, study)
    if own is None or own["trial_id"] == probe["trial_id"] or own["test_score"] is None:
        return text
    over = _difference(tuned, own, pick=pick)
    beside = f"the {named(own, study)}, the probe of its own backbone"
    if over is not None:
        return f"{text}; over {beside}: {difference_with_interval(over, pick['metric'])}"
    own_score = score_with_unit(own["test_score"], own["metric"])
    return f"{text}; {beside}: {own_score} ({interval_ends(own)})"


def _over_start(tuned: Row) -> list[str]:
    """Return the gain of training over its start, by validation; empty if unknown."""
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
    """Return a phrase if better rows of the same method have no test score, else ""."""
    first = next(other for other in study if other["method"] == row["method"])
    return "" if first["trial_id"] == row["trial_id"] else " with a test score"


def _difference(tuned: Row, probe: Row, *, pick: Row) -> Interval | None:
    """Return the test score of `tuned` minus that of `probe`, if one of them is the pick.

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
