"""Formatting of numbers and text for people; shared by the terminal and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.methods import Method
from trainable.spec.metrics import Metric


def printable(text: str) -> str:
    """The text with every non-printable character, line breaks included, replaced by `?`.

    Text from outside (paths, class names) can hold escape sequences that a terminal obeys.
    """
    return "".join(char if char.isprintable() else "?" for char in text)


def printable_lines(text: str) -> str:
    """The text with `printable` applied to each line, and tabs expanded to spaces."""
    return "\n".join(printable(line) for line in text.expandtabs().split("\n"))


def last_line(text: str) -> str:
    """The last non-blank line, stripped; empty if there is none."""
    return text.strip().rpartition("\n")[2].strip()


def percent(share: float | None) -> str:
    """A fraction in 0..1 as a percentage with one decimal; empty for None."""
    return "" if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A difference of fractions in percentage points with its sign; empty for None."""
    return "" if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"


_NAMES: Mapping[str, str] = {Metric.MIOU: "mean IoU"}
"""Names of metrics that are not what their identifier says."""


def metric_name(metric: str | None) -> str:
    """The name of a metric in words; accuracy for None."""
    return _NAMES.get(metric or "", (metric or Metric.ACCURACY).replace("_", " "))


def score(value: float | None, metric: str | None) -> str:
    """A score without its unit: a fraction as a percentage, a loss unchanged; empty for None."""
    if _is_share(metric):
        return percent(value)
    return "" if value is None else f"{value:.3f}"


def score_with_unit(value: float, metric: str | None) -> str:
    """A score with its unit: `71.2 %`; a loss has none: `0.412`."""
    return f"{score(value, metric)} %" if _is_share(metric) else score(value, metric)


def score_difference(difference: float | None, metric: str | None) -> str:
    """A difference of scores with its sign; fractions in percentage points; empty for None."""
    if _is_share(metric):
        return points(difference)
    return "" if difference is None else f"{round(difference, 3) + 0.0:+.3f}"


def score_column(metric: str | None) -> str:
    """The heading of a column of test scores: `test %`, `test log loss`."""
    name = "" if metric in (None, Metric.ACCURACY) else f" {metric_name(metric)}"
    return f"test{name}{' %' if _is_share(metric) else ''}"


def difference_unit(metric: str | None) -> str:
    """The unit of a difference of scores: `points` or `nats`."""
    return "points" if _is_share(metric) else "nats"


def _is_share(metric: str | None) -> bool:
    return Metric(metric or Metric.ACCURACY).is_share


WITHOUT_BACKBONE_TEXT: Mapping[str, str] = {
    Method.PIXELS: "raw pixels",
    Method.TFIDF: "tf-idf of the texts",
    Method.MAJORITY: "the commonest class",
}
"""How the baselines without a backbone are called in sentences, by method."""


def noun_of(row: Mapping[str, Any]) -> str:
    """What one example of a row's sweep is called: `image`, or `text`."""
    return str(row.get("modality") or "image")


_INPUTS: Mapping[str, str] = {
    "image_size": "image size {}",
    "max_length": "at most {} tokens",
    "truncate": "truncate {}",
    "prompt": "prompt {!r}",
    "pooling": "pooling {}",
}
"""How sentences tell what a network sees, by column."""


def differing_inputs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns in which rows differ of what their network sees; unknown values aside."""
    return [name for name in _INPUTS if len({row.get(name) for row in rows} - {None}) > 1]


def configuration(row: Mapping[str, Any], *, inputs: Sequence[str] = ()) -> str:
    """A short description of a configuration: backbone, freeze depth and learning rate.

    Args:
        row: row of the trials table or the leaderboard; a fine-tuned trial or a baseline.
        inputs: columns of `differing_inputs` to add, as far as they are known.
    """
    seen = [_INPUTS[name].format(row[name]) for name in inputs if row[name] is not None]
    if row["method"] in WITHOUT_BACKBONE_TEXT:
        return WITHOUT_BACKBONE_TEXT[row["method"]]
    if row["method"] == Method.PROBE:
        return ", ".join([f"linear probe on {row['backbone']}", *seen])
    parts = [str(row["backbone"])]
    if row["freeze_depth"] is not None:
        parts.append(f"freeze depth {row['freeze_depth']:.3g}")
    if row["lr"] is not None:
        parts.append(f"lr {row['lr']:.2g}")
    return ", ".join(parts + seen)


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits; empty for None."""
    return "" if value is None else f"{value:.{digits}g}"


def val_share(row: Mapping[str, Any]) -> float | None:
    """The validation score as a share: the accuracy, or the objective of masks; None if a loss."""
    accuracy: float | None = row["val_accuracy"]
    if accuracy is not None or not _is_share(row["metric"]):
        return accuracy
    objective: float | None = row["val_objective"]
    return objective


def tie(row: Mapping[str, Any]) -> str:
    """`tied` or `differs`, compared with rank 1; empty for rank 1 itself and if unknown."""
    if row["tied_with_best"] is None or row["rank"] == 1:
        return ""
    return "tied" if row["tied_with_best"] else "differs"


def duration(seconds: float | None) -> str:
    """A duration such as `1h05m` or `2m07s`; a dash for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
