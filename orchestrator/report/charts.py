"""The figures of a report, as plotly's JSON: what is drawn, not how it looks.

Colours come from a palette that people with colour blindness can tell apart (Okabe and Ito 2008),
and never alone: a marker's shape or a line's dash says the same. Fonts, backgrounds and the colour
of axes are the page's, so that they follow its theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.contents import Point, Series, Study, Winner
from orchestrator.report.importance import Importance

Figure = dict[str, Any]

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")
_DASHES = {"finetune": "solid", "probe": "dash", "pixels": "dot"}
_GREY = "#8a8a8a"
_PANELS_A_ROW = 3
_MOST_CLASSES = 40
_MOST_NUMBERED = 15

_LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"}
_LR = {"type": "log", "title": {"text": "learning rate"}, "exponentformat": "e", "dtick": 1}


def text(name: object) -> str:
    """A name for plotly, which reads some HTML in texts; on one line."""
    line = "".join(char if char.isprintable() else " " for char in str(name))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Looks:
    """The colour and the symbol of each backbone, the same in all figures.

    Args:
        backbones: in the order in which they get theirs.
    """

    def __init__(self, backbones: Sequence[str]) -> None:
        self._place = {name: place for place, name in enumerate(dict.fromkeys(backbones))}

    def colour(self, backbone: str | None) -> str:
        """A colour; grey for none."""
        place = self._place.get(backbone or "")
        return _GREY if place is None else _PALETTE[place % len(_PALETTE)]

    def symbol(self, backbone: str | None) -> str:
        """A marker's symbol."""
        place = self._place.get(backbone or "")
        return "x" if place is None else _SYMBOLS[place % len(_SYMBOLS)]


def efficiency(found: Sequence[Series], looks: Looks) -> Figure:
    """Test accuracy over labels per class, with intervals, drawn side by side where they meet."""
    budgets = sorted({point["label_budget"] for one in found for point in one.points})
    traces = []
    for number, one in enumerate(found):
        shift = 1.025 ** (number - (len(found) - 1) / 2)
        accuracy = [100 * point["test_accuracy"] for point in one.points]
        name = {
            "finetune": f"{one.backbone}, fine-tuned",
            "probe": f"{one.backbone}, linear probe",
            "pixels": "raw pixels",
        }.get(one.method, one.method)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": text(name),
                "x": [point["label_budget"] * shift for point in one.points],
                "y": accuracy,
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [
                        100 * point["test_ci_high"] - mean
                        for point, mean in zip(one.points, accuracy, strict=True)
                    ],
                    "arrayminus": [
                        mean - 100 * point["test_ci_low"]
                        for point, mean in zip(one.points, accuracy, strict=True)
                    ],
                    "thickness": 1.5,
                    "width": 3,
                },
                "line": {"color": looks.colour(one.backbone), "dash": _DASHES.get(one.method)},
                "marker": {
                    "color": looks.colour(one.backbone),
                    "symbol": looks.symbol(one.backbone)
                    + ("" if one.method == "finetune" else "-open"),
                    "size": 8,
                },
                "text": [
                    f"{text(point['trial_id'])}<br>{100 * point['test_ci_low']:.1f} to "
                    f"{100 * point['test_ci_high']:.1f} %, {point['label_budget']:.4g} labels"
                    for point in one.points
                ],
                "hovertemplate": "%{y:.1f} %<br>%{text}<extra>%{fullData.name}</extra>",
            }
        )
    return {
        "data": traces,
        "layout": {
            "height": 460,
            "xaxis": {
                "type": "log",
                "title": {"text": "labels per class"},
                "tickvals": budgets,
                "ticktext": [f"{budget:.4g}" for budget in budgets],
            },
            "yaxis": {"title": {"text": "test accuracy, %"}},
            "legend": _LEGEND,
        },
    }


def depth_and_rate(study: Study, backbones: Sequence[str]) -> Figure:
    """Freeze depth and learning rate of every trial of a budget, a panel a backbone.

    The colour of a complete trial is its validation accuracy; pruned and failed ones are grey.
    """
    columns = min(_PANELS_A_ROW, max(1, len(backbones)))
    rows = -(-len(backbones) // columns)
    layout: Figure = {
        "height": 90 + 240 * rows,
        "grid": {"rows": rows, "columns": columns, "pattern": "independent", "ygap": 0.35},
        "showlegend": False,
        "coloraxis": {
            "colorscale": "Cividis",
            "colorbar": {"title": {"text": "validation<br>accuracy, %"}, "thickness": 12},
        },
        "annotations": [],
    }
    traces = []
    for number, backbone in enumerate(backbones, start=1):
        suffix = "" if number == 1 else str(number)
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        layout[f"xaxis{suffix}"] = _LR | ({"matches": "x"} if suffix else {})
        layout[f"yaxis{suffix}"] = {"title": {"text": "freeze depth"}, "range": [-0.08, 1.08]}
        layout["annotations"].append(
            {
                "text": text(backbone),
                "xref": f"x{suffix} domain",
                "yref": f"y{suffix} domain",
                "x": 0.5,
                "y": 1.14,
                "showarrow": False,
            }
        )
        placed = [
            point
            for point in study.points
            if point.backbone == backbone
            and point.lr is not None
            and point.freeze_depth is not None
        ]
        stopped = [point for point in placed if point.state != "complete"]
        complete = [point for point in placed if point.state == "complete"]
        for some, marker in (
            (stopped, {"color": _GREY, "symbol": "x-thin-open", "size": 7}),
            (
                complete,
                {
                    "color": [_percent(point.val_accuracy) for point in complete],
                    "coloraxis": "coloraxis",
                    "size": 12,
                    "line": {"width": 1, "color": _GREY},
                },
            ),
        ):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [point.lr for point in some],
                    "y": [point.freeze_depth for point in some],
                    "marker": marker,
                    "text": [_about(point) for point in some],
                    "hovertemplate": "%{text}<extra></extra>",
                    **axes,
                }
            )
    return {"data": traces, "layout": layout}


def learning_curves(study: Study, looks: Looks) -> Figure:
    """Validation accuracy by update; what was pruned or failed is faded."""
    best = _best(study)
    traces = []
    shown = set()
    for curve in sorted(study.curves, key=lambda c: (c.point.state == "complete", c.point == best)):
        point, complete = curve.point, curve.point.state == "complete"
        group = text(f"{point.backbone}, {'complete' if complete else 'stopped'}")
        width = 3.5 if point == best else 1.2
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": curve.steps,
                "y": [_percent(value) for value in curve.accuracies],
                "name": group,
                "legendgroup": group,
                "showlegend": group not in shown,
                "opacity": 0.9 if complete else 0.35,
                "line": {"color": looks.colour(point.backbone), "width": width},
                "marker": {"symbol": looks.symbol(point.backbone), "size": 5},
                "text": [_about(point)] * len(curve.steps),
                "hovertemplate": "update %{x}: %{y:.1f} %<br>%{text}<extra></extra>",
            }
        )
        shown.add(group)
    return {
        "data": traces,
        "layout": {
            "height": 420,
            "xaxis": {"title": {"text": "updates"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "validation accuracy, %"}},
            "legend": _LEGEND,
            "hovermode": "closest",
        },
    }


def pareto(study: Study, looks: Looks) -> Figure:
    """Validation accuracy against training time of complete trials, and the front of the two."""
    traces: list[Figure] = []
    complete = [
        point
        for point in study.points
        if point.state == "complete" and point.duration_s and point.val_accuracy is not None
    ]
    for backbone in dict.fromkeys(point.backbone for point in complete):
        some = [point for point in complete if point.backbone == backbone]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(backbone),
                "x": [point.duration_s for point in some],
                "y": [_percent(point.val_accuracy) for point in some],
                "marker": {
                    "color": looks.colour(backbone),
                    "symbol": looks.symbol(backbone),
                    "size": 8,
                    "opacity": 0.7,
                },
                "text": [_about(point) for point in some],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    front = [point for point in study.front if point.duration_s]
    slowest = max((point.duration_s or 0.0 for point in complete), default=0.0)
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "front",
            "x": [*(point.duration_s for point in front), slowest],
            "y": [_percent(point.val_accuracy) for point in [*front, front[-1]]],
            "line": {"shape": "hv", "color": _GREY, "width": 2},
            "hoverinfo": "skip",
        }
    )
    return {
        "data": traces,
        "layout": {
            "height": 400,
            "xaxis": {"type": "log", "title": {"text": "time of the trial, s"}},
            "yaxis": {"title": {"text": "validation accuracy, %"}},
            "legend": _LEGEND,
        },
    }


def axis_importance(found: Mapping[str, Sequence[Importance]]) -> Figure:
    """How much each axis explains, a group of bars an axis, a bar a budget."""
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
            "legend": _LEGEND,
        },
    }


def class_accuracy(winner: Winner) -> Figure:
    """Test accuracy of the winner by class, the worst on top."""
    shown = winner.class_accuracy[:_MOST_CLASSES][::-1]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [100 * share for _, share, _ in shown],
                "y": [text(name) for name, _, _ in shown],
                "marker": {"color": _PALETTE[0]},
                "text": [f"{count} answers" for _, _, count in shown],
                "textposition": "none",
                "hovertemplate": "%{y}: %{x:.1f} % of %{text}<extra></extra>",
            }
        ],
        "layout": {
            "height": 120 + 22 * len(shown),
            "xaxis": {"title": {"text": "test accuracy, %"}, "range": [0, 100]},
            "yaxis": {"type": "category", "automargin": True, "dtick": 1},
        },
    }


def confusion(winner: Winner) -> Figure:
    """Share of each true class that was taken for each class, in percent.

    The right answers have no colour: beside them the wrong ones could not be seen.
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


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _about(point: Point) -> str:
    """What hovering over a trial shows."""
    parts = [text(point.trial_id), text(point.backbone)]
    if point.freeze_depth is not None:
        parts.append(f"depth {point.freeze_depth:.3g}")
    if point.lr is not None:
        parts.append(f"lr {point.lr:.2g}")
    if point.val_accuracy is not None:
        parts.append(f"{100 * point.val_accuracy:.1f} %")
    if point.duration_s is not None:
        parts.append(f"{point.duration_s:.2g} s")
    if point.state != "complete":
        parts.append(point.state)
    return ", ".join(parts)


def _best(study: Study) -> Point | None:
    """The complete trial with the best objective."""
    complete = [p for p in study.points if p.state == "complete" and p.val_objective is not None]
    choose = max if study.maximize else min
    return choose(complete, key=lambda point: point.val_objective or 0.0, default=None)
