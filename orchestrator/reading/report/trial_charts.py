"""Figures of a report with every trial: depth and rate, learning curves, cost."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.reading.report.charts import GREY, LEGEND, Figure, Looks, text
from orchestrator.reading.report.contents import Point, Study

_PANELS_A_ROW = 3
_LR = {"type": "log", "title": {"text": "learning rate"}, "exponentformat": "e", "dtick": 1}


def depth_and_rate(study: Study, backbones: Sequence[str], *, scored: str) -> Figure:
    """Draw freeze depth and learning rate of every trial of a budget, a panel per backbone.

    The colour of a complete trial is its validation score; pruned and failed ones are grey.

    Args:
        study: the trials.
        backbones: a panel for each.
        scored: name of the validation score, such as `accuracy`.
    """
    columns = min(_PANELS_A_ROW, max(1, len(backbones)))
    rows = -(-len(backbones) // columns)
    layout: Figure = {
        "height": 90 + 240 * rows,
        "grid": {"rows": rows, "columns": columns, "pattern": "independent", "ygap": 0.35},
        "showlegend": False,
        "coloraxis": {
            "colorscale": "Cividis",
            "colorbar": {"title": {"text": f"validation<br>{scored}, %"}, "thickness": 12},
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
            (stopped, {"color": GREY, "symbol": "x-thin-open", "size": 7}),
            (
                complete,
                {
                    "color": [_percent(point.val_share) for point in complete],
                    "coloraxis": "coloraxis",
                    "size": 12,
                    "line": {"width": 1, "color": GREY},
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


def learning_curves(study: Study, looks: Looks, *, scored: str) -> Figure:
    """Draw the validation score by update; pruned and failed trials are faded."""
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
                "y": [_percent(value) for value in curve.shares],
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
            "yaxis": {"title": {"text": f"validation {scored}, %"}},
            "legend": LEGEND,
            "hovermode": "closest",
        },
    }


def pareto(study: Study, looks: Looks, *, scored: str) -> Figure:
    """Draw the validation score against time of complete trials, with their Pareto front."""
    traces: list[Figure] = []
    complete = [
        point
        for point in study.points
        if point.state == "complete" and point.duration_s and point.val_share is not None
    ]
    for backbone in dict.fromkeys(point.backbone for point in complete):
        some = [point for point in complete if point.backbone == backbone]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(backbone),
                "x": [point.duration_s for point in some],
                "y": [_percent(point.val_share) for point in some],
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
            "y": [_percent(point.val_share) for point in [*front, front[-1]]],
            "line": {"shape": "hv", "color": GREY, "width": 2},
            "hoverinfo": "skip",
        }
    )
    return {
        "data": traces,
        "layout": {
            "height": 400,
            "xaxis": {"type": "log", "title": {"text": "time of the trial, s"}},
            "yaxis": {"title": {"text": f"validation {scored}, %"}},
            "legend": LEGEND,
        },
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _about(point: Point) -> str:
    """Return the hover text of a trial."""
    parts = [text(point.trial_id), text(point.backbone)]
    if point.freeze_depth is not None:
        parts.append(f"depth {point.freeze_depth:.3g}")
    if point.lr is not None:
        parts.append(f"lr {point.lr:.2g}")
    if point.val_share is not None:
        parts.append(f"{100 * point.val_share:.1f} %")
    if point.duration_s is not None:
        parts.append(f"{point.duration_s:.2g} s")
    if point.state != "complete":
        parts.append(point.state)
    return ", ".join(parts)


def _best(study: Study) -> Point | None:
    """Return the complete trial with the best objective."""
    complete = [p for p in study.points if p.state == "complete" and p.val_objective is not None]
    choose = max if study.maximize else min
    return choose(complete, key=lambda point: point.val_objective or 0.0, default=None)
