from __future__ import annotations

import math

import pytest

from orchestrator.reading.report import charts, trial_charts
from orchestrator.reading.report.contents import Point, Series, Study
from trainable.spec.metrics import Metric


def point(number: int, **changes: object) -> Point:
    known = {
        "trial_id": f"b5-{number:04d}",
        "backbone": "net",
        "state": "complete",
        "freeze_depth": 0.5,
        "lr": 1e-3,
        "val_objective": 0.9,
        "val_share": 0.9,
        "duration_s": 1.0,
    }
    return Point(**(known | changes))  # type: ignore[arg-type]


def study(*points: Point, maximize: bool = True) -> Study:
    return Study(
        name="b5",
        label_budget=5.0,
        unit="labels per class",
        maximize=maximize,
        points=list(points),
        curves=[],
        num_curves=0,
    )


def test_texts_are_no_markup_for_plotly() -> None:
    assert charts.text("<b>a</b> & b\nc\x1b[31m") == "&lt;b&gt;a&lt;/b&gt; &amp; b?c?[31m"


def test_backbones_look_different_and_stay_so() -> None:
    looks = charts.Looks(["a", "b", "a", "c"])
    assert len({looks.colour(name) for name in "abc"}) == 3
    assert len({looks.symbol(name) for name in "abc"}) == 3
    assert looks.colour("a") == charts.Looks(["a"]).colour("a")
    assert looks.colour(None) not in {looks.colour(name) for name in "abc"}


@pytest.mark.parametrize(
    ("metric", "scores", "title", "about"),
    [
        (Metric.ACCURACY, [71.2], "test accuracy, %", "65.0 to 77.0 %, 5 labels"),
        (Metric.BALANCED_ACCURACY, [71.2], "test balanced accuracy, %", "65.0 to 77.0 %, 5 labels"),
        (Metric.LOG_LOSS, [0.712], "test log loss", "0.650 to 0.770, 5 labels"),
    ],
)
def test_test_scores_over_labels_are_those_of_the_objective(
    metric: Metric, scores: list[float], title: str, about: str
) -> None:
    row = {"label_budget": 5.0, "trial_id": "b5-probe-net", "test_score": 0.712}
    row |= {"test_ci_low": 0.65, "test_ci_high": 0.77}
    found = [Series(method="probe", backbone="net", points=[row])]
    figure = charts.efficiency(
        found, charts.Looks(["net"]), metric, unit_of_labels="labels per class"
    )
    (trace,) = figure["data"]
    assert trace["name"] == "net, linear probe"
    assert trace["y"] == pytest.approx(scores)
    assert trace["error_y"]["array"] == pytest.approx([scores[0] / 0.712 * 0.058])
    assert trace["text"] == [f"b5-probe-net<br>{about}"]
    assert figure["layout"]["yaxis"]["title"]["text"] == title


def test_the_front_has_no_point_that_a_quicker_one_equals() -> None:
    quick, equal = point(0, duration_s=1.0), point(1, duration_s=2.0)
    better = point(2, duration_s=3.0, val_share=0.95)
    pruned = point(3, duration_s=0.1, val_share=1.0, state="pruned")
    unknown = point(4, duration_s=None)
    assert study(better, unknown, equal, pruned, quick).front == [quick, better]


def test_what_has_no_rate_or_depth_is_left_out_of_the_map() -> None:
    figure = trial_charts.depth_and_rate(
        study(point(0, lr=None), point(1)), ["net"], scored="accuracy"
    )
    assert [len(trace["x"]) for trace in figure["data"]] == [0, 1]


def test_panels_of_the_map_share_one_range_of_rates() -> None:
    layout = trial_charts.depth_and_rate(
        study(point(0)), ["net", "other", "third", "fourth"], scored="accuracy"
    )["layout"]
    assert layout["grid"]["rows"] == 2
    assert [layout[axis].get("matches") for axis in ("xaxis", "xaxis2", "xaxis4")] == [
        *(None, "x", "x")
    ]


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_curve_is_thick(maximize: bool) -> None:
    from orchestrator.reading.report.contents import Curve

    points = [point(0, val_objective=0.2), point(1, val_objective=0.8)]
    some = study(*points, maximize=maximize)
    some.curves.extend(Curve(point=one, steps=[1], shares=[0.5]) for one in points)
    traces = trial_charts.learning_curves(some, charts.Looks(["net"]), scored="accuracy")["data"]
    widths = {trace["text"][0].split(",")[0]: trace["line"]["width"] for trace in traces}
    best = "b5-0001" if maximize else "b5-0000"
    assert max(widths, key=lambda trial: widths[trial]) == best
    assert not math.isclose(*widths.values())
