"""The HTML of a report: one file without external resources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from orchestrator import text
from orchestrator.reading.report.charts import Figure
from orchestrator.reading.report.contents import Row, Series, Spent
from orchestrator.reading.report.mask_winner import MaskWinner
from orchestrator.reading.report.winner import Winner
from trainable.spec.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Page:
    """The contents of the page, in its order.

    Attributes:
        sweep_id: its title.
        unfinished: whether the sweep could go on.
        answer: lines of the sweep's answer.
        series: test scores over budgets.
        test_set: size and resolution of the test set; None if nothing was scored on it.
        metric: the objective, the metric of the test scores.
        leaderboard: rows by budget.
        curve_notes: notes about learning curves that are left out.
        winner: test answers of the recommended configuration, if it was scored there.
        mask_winner: its test masks, where labels are masks.
        scored: name of the validation score that figures of trials show.
        unit: what label budgets count.
        thumbnails: `data:` URLs of thumbnails by image id.
        texts: beginnings of texts by their id.
        thumbnail_note: why there are neither, or None.
        noun: what one example is called.
        spent: cost of each budget.
        savings: savings by shared computation, in words.
        protocol: names and values that describe the measurement.
        figures: panels by label, by id of the figure.
    """

    sweep_id: str
    unfinished: bool
    answer: Sequence[str]
    series: Sequence[Series]
    test_set: str | None
    metric: Metric
    leaderboard: Sequence[tuple[str, Sequence[Row]]]
    curve_notes: Sequence[str]
    winner: Winner | None
    mask_winner: MaskWinner | None
    scored: str
    unit: str
    thumbnails: Mapping[str, str] = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)
    thumbnail_note: str | None
    noun: str
    spent: Sequence[Spent]
    savings: str
    protocol: Sequence[tuple[str, str]]
    figures: Mapping[str, Mapping[str, Figure]] = field(repr=False)


def render(page: Page) -> str:
    """Render the page as one HTML document."""
    return _template().render(
        **{name: getattr(page, name) for name in Page.__dataclass_fields__},
        figures_json=_embedded(page.figures),
        style=Markup(_asset("page.css")),  # noqa: S704 - our own file
        script=Markup(_asset("page.js")),  # noqa: S704 - our own file
        plotly=Markup(_plotly()),  # noqa: S704 - plotly's own file
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "percent": text.percent,
        "score": text.score,
        "score_difference": text.score_difference,
        "score_column": text.score_column,
        "metric_name": text.metric_name,
        "difference_unit": text.difference_unit,
        "configuration": text.configuration,
        "number": text.number,
        "seconds": lambda value: f"{value:,.0f}",
        "count": lambda value: f"{value:,}",
        "tie": text.tie,
        "val_share": lambda row: text.percent(text.val_share(row)),
    }
    return environment.from_string(_asset("page.html"))


def _embedded(figures: Mapping[str, Any]) -> Markup:
    """Return JSON escaped for a script element."""
    text = json.dumps(figures, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - nothing is left that HTML could take for its own


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Return plotly.js as its package ships it."""
    file = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return file.read_text(encoding="utf-8")
