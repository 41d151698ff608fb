"""Numbers and words as people read them, on a terminal and in a report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.methods import Method
from trainable.spec.trial_spec import Metric


def plain(text: str) -> str:
    """Text from outside without what could steer a terminal, or end its line."""
    return "".join(char if char.isprintable() else "?" for char in text)


def plain_lines(text: str) -> str:
    """Lines of text from outside, each of them `plain`."""
    return "\n".join(plain(line) for line in text.expandtabs().split("\n"))


def last_line(text: str) -> str:
    """The last line of a text that is not blank, without blanks around it; empty for none."""
    return text.strip().rpartition("\n")[2].strip()


def percent(share: float | None) -> str:
    """A share in 0..1 as a percentage with one decimal; nothing for None."""
    return "" if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign; nothing for None."""
    return "" if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"


def metric_name(metric: str | None) -> str:
    """A metric in words; accuracy where it is unknown."""
    return (metric or Metric.ACCURACY).replace("_", " ")


def score(value: float | None, metric: str | None) -> str:
    """A score without its unit: a share as a percentage, a loss as it is; nothing for None."""
    if _is_share(metric):
        return percent(value)
    return "" if value is None else f"{value:.3f}"


def score_with_unit(value: float, metric: str | None) -> str:
    """A score that can stand alone: `71.2 %`, `0.412`."""
    return f"{score(value, metric)} %" if _is_share(metric) else score(value, metric)


def score_difference(difference: float | None, metric: str | None) -> str:
    """A difference of scores with its sign: shares in percentage points; nothing for None."""
    if _is_share(metric):
        return points(difference)
    return "" if difference is None else f"{round(difference, 3) + 0.0:+.3f}"


def score_column(metric: str | None) -> str:
    """The head of a column of test scores: `test %`, `test log loss`."""
    name = "" if metric in (None, Metric.ACCURACY) else f" {metric_name(metric)}"
    return f"test{name}{' %' if _is_share(metric) else ''}"


def difference_unit(metric: str | None) -> str:
    """What differences of scores are counted in."""
    return "points" if _is_share(metric) else "nats"


def _is_share(metric: str | None) -> bool:
    return Metric(metric or Metric.ACCURACY).is_share


def configuration(row: Mapping[str, Any], *, with_size: bool = False) -> str:
    """A row of a table of trials or a leaderboard in a few words.

    Args:
        row: of a fine-tuned configuration or a baseline.
        with_size: whether to tell the size of its images, where it is known.
    """
    size = []
    if with_size and row["image_size"] is not None:
        size.append(f"image size {row['image_size']}")
    if row["method"] == Method.PIXELS:
        return "raw pixels"
    if row["method"] == Method.PROBE:
        return ", ".join([f"linear probe on {row['backbone']}", *size])
    parts = [str(row["backbone"])]
    if row["freeze_depth"] is not None:
        parts.append(f"freeze depth {row['freeze_depth']:.3g}")
    if row["lr"] is not None:
        parts.append(f"lr {row['lr']:.2g}")
    return ", ".join(parts + size)


def number(value: float | None, digits: int = 3) -> str:
    """A number in its shortest form with so many digits; nothing for None."""
    return "" if value is None else f"{value:.{digits}g}"


def tie(row: Mapping[str, Any]) -> str:
    """Whether a row of a leaderboard differs from the best; nothing for that, or if unknown."""
    if row["tied_with_best"] is None or row["rank"] == 1:
        return ""
    return "tied" if row["tied_with_best"] else "differs"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; a dash where it is unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
