"""Figures of a report as plotly's JSON: data and encoding, without the page's style.

Colours are from a palette that is safe for colour blindness (Okabe and Ito 2008), and are always
combined with a marker symbol or a line dash. Fonts, backgrounds and the colour of axes are set by
the page, so that they follow its theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.methods import Method
from orchestrator.reading.report.contents import Series
from orchestrator.reading.report.importance import Importance
from orchestrator.reading.report.winner import Winner
from orchestrator.text import WITHOUT_BACKBONE_TEXT, metric_name, printable
from trainable.spec.metrics import Metric

Figure = dict[str, Any]

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")
_DASHES: Mapping[str, str] = {
    Method.FINETUNE: "solid",
    Method.PROBE: "dash",
    **dict.fromkeys(WITHOUT_BACKBONE_TEXT, "dot"),
}
GREY = "#8a8a8a"
_MOST_CLASSES = 40
_MOST_NUMBERED = 15

LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"}


def text(name: object) -> str:
    """Return a name on one line, escaped for plotly, which parses some HTML in texts."""
    return printable(str(name)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Looks:
    """The colour and the symbol of each backbone, the same in all figures.

    Args:
        backbones: backbones in the order in which colours are assigned.
    """

    def __init__(self, backbones: Sequence[str]) -> None:
        self._place = {name: place for place, name in enumerate(dict.fromkeys(backbones))}

    def colour(self, backbone: str | None) -> str:
        """Return the colour of a backbone; grey for None."""
        place = self._place.get(backbone or "")
        return GREY if place is None else _PALETTE[place % len(_PALETTE)]

    def symbol(self, backbone: str | None) -> str:
        """Return the marker symbol of a backbone."""
        place = self._place.get(backbone or "")
        return "x" if place is None else _SYMBOLS[place % len(_SYMBOLS)]


def efficiency(
    found: Sequence[Series], looks: Looks, metric: Metric, *, unit_of_labels: str
) -> Figure:
    """Draw test scores over label budgets, with intervals, shifted so as not to overlap."""
    budgets = sorted({point["label_budget"] for one in found for point in one.points})
    factor, unit, digits = (100, " %", ".1f") if metric.is_share else (1, "", ".3f")
    traces = []
    for number, one in enumerate(found):
        shift = 1.025 ** (number - (len(found) - 1) / 2)
        scores, lows, highs = (
            [factor * point[column] for point in one.points]
            for column in ("test_score", "test_ci_low", "test_ci_high")
        )
        names: Mapping[str, str] = {
            Method.FINETUNE: f"{one.backbone}, fine-tuned",
            Method.PROBE: f"{one.backbone}, linear probe",
            **WITHOUT_BACKBONE_TEXT,
        }
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": text(names.get(one.method, one.method)),
                "x": [point["label_budget"] * shift for point in one.points],
                "y": scores,
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - mean for high, mean in zip(highs, scores, strict=True)],
                    "arrayminus": [mean - low for mean, low in zip(scores, lows, strict=True)],
                    "thickness": 1.5,
                    "width": 3,
                },
                "line": {"color": looks.colour(one.backbone), "dash": _DASHES.get(one.method)},
                "marker": {
                    "color": looks.colour(one.backbone),
                    "symbol": looks.symbol(one.backbone)
                    + ("" if one.method == Method.FINETUNE else "-open"),
                    "size": 8,
                },
                "text": [
                    f"{text(point['trial_id'])}<br>{low:{digits}} to {high:{digits}}{unit}, "
                    f"{point['label_budget']:.4g} labels"
                    for point, low, high in zip(one.points, lows, highs, strict=True)
                ],
                "hovertemplate": f"%{{y:{digits}}}{unit}<br>%{{text}}"
                "<extra>%{fullData.name}</extra>",
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 460,
            "xaxis": {
                "type": "log",
                "title": {"text": unit_of_labels},
                "tickvals": budgets,
                "ticktext": [f"{budget:.4g}" for budget in budgets],
            },
            "yaxis": {"title": {"text": f"test {metric_name(metric)}{unit and ', %'}"}},
            "legend": LEGEND,
        },
    }


def axis_importance(found: Mapping[str, Sequence[Importance]]) -> Figure:
    """Draw the importance of each axis: a group of bars per axis, a bar per budget."""
    axes = sorted({one.axis for some in found.values() for one in some})
    traces = []
    for number, (label, some) in enumerate(found.items()):
        by_axis = {one.axis: one for one in some}
        traces.append(
            {
                "type": "bar",
                "name": text(label),
                "x": [text(axis) for axis in axes],
                "y": [100 * by_axis[axis].share if axis in by_axis else None for axis in axes],
                "marker": {
                    "color": _PALETTE[number % len(_PALETTE)],
                    "pattern": {"shape": ("", "/", "x", ".", "\\", "-", "+", "|")[number % 8]},
                },
                "text": [
                    (
                        f"{by_axis[axis].num_trials} complete trials"
                        + (" that have it" if by_axis[axis].conditional else "")
                    )
                    if axis in by_axis
                    else ""
                    for axis in axes
                ],
                "textposition": "none",
                "hovertemplate": "%{x}: %{y:.0f} %<br>%{text}<extra>%{fullData.name}</extra>",
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 360,
            "barmode": "group",
            "yaxis": {"title": {"text": "share of explained variance, %"}, "range": [0, 100]},
            "legend": LEGEND,
        },
    }


def class_scores(found: Sequence[tuple[str, float, int]], *, scored: str, counted: str) -> Figure:
    """Draw test scores by class, the worst on top.

    Args:
        found: name, score in 0..1 and size of each class, the worst first.
        scored: name of the score, such as `accuracy`.
        counted: what the size is of, such as `answers`.
    """
    shown = found[:_MOST_CLASSES][::-1]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [100 * share for _, share, _ in shown],
                "y": [text(name) for name, _, _ in shown],
                "marker": {"color": _PALETTE[0]},
                "text": [f"{count:,} {counted}" for _, _, count in shown],
                "textposition": "none",
                "hovertemplate": "%{y}: %{x:.1f} % of %{text}<extra></extra>",
            }
        ],
        "layout": {
            "height": 120 + 22 * len(shown),
            "xaxis": {"title": {"text": f"test {scored}, %"}, "range": [0, 100]},
            "yaxis": {"type": "category", "automargin": True, "dtick": 1},
        },
    }


def confusion(winner: Winner) -> Figure:
    """Draw the share of each true class that was predicted as each class, in percent.

    Right answers have no colour, because they would hide the wrong ones.
    """
    totals = winner.confusion.sum(axis=1, keepdims=True)
    shares = 100 * winner.confusion / totals.clip(min=1)
    names = [text(name) for name in winner.classes]
    cells = range(len(names))
    wrong = [[None if i == j else float(shares[i, j]) for j in cells] for i in cells]
    few = len(names) <= _MOST_CLASSES
    ticks = {"tickvals": list(cells), "ticktext": names} if few else {"showticklabels": False}
    traces: list[Figure] = [
        {
            "type": "heatmap",
            "z": wrong,
            "colorscale": [[0, "rgba(213,94,0,0)"], [1, "rgba(213,94,0,0.9)"]],
            "zmin": 0,
            "colorbar": {"title": {"text": "%"}, "thickness": 12},
            "text": [[f"{true} taken for {taken}" for taken in names] for true in names],
            "hovertemplate": "%{text}: %{z:.1f} %<extra></extra>",
        }
    ]
    if len(names) <= _MOST_NUMBERED:
        places = [(i, j) for i in cells for j in cells if shares[i, j]]
        traces.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": [j for _, j in places],
                "y": [i for i, _ in places],
                "text": [f"{shares[place]:.1f}" for place in places],
                "textfont": {"size": 10},
                "hoverinfo": "skip",
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 480,
            "showlegend": False,
            "xaxis": {"title": {"text": "predicted"}, "constrain": "domain", **ticks},
            "yaxis": {"title": {"text": "true class"}, "autorange": "reversed", **ticks},
        },
    }
