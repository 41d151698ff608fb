from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest

from orchestrator.cli.main import run as command
from orchestrator.errors import StorageError
from orchestrator.reading.report import write_report
from orchestrator.reading.report.contents import MOST_CURVES
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.text import score as scored
from tests.builders.old_tables import make_old
from tests.builders.synthetic_sweeps import write_sweep
from tests.orchestrator.reading.report.test_report_numbers import Reader

HOSTILE = (
    "<script>document.title='hacked'</script>",
    '"><img src=x onerror="document.title=\'hacked\'">',
    "=1+1\n'; drop table trials; --",
    "</script><b>bold</b>{{ 7 * 7 }}\u2028&amp;",
)


def report_of(sweep: Path) -> str:
    write_report(Run(sweep), sweep / "report.html")
    return (sweep / "report.html").read_text()


def figures(text: str) -> list[dict[str, Any]]:
    found = Reader(text).figures
    return [figure for panels in found.values() for figure in panels.values()]


def test_every_figure_is_one_that_plotly_knows(tmp_path: Path) -> None:
    drawn = figures(report_of(write_sweep(tmp_path / "run")))
    assert len(drawn) == 1 + 3 + 3 + 3 + 1 + 1
    for figure in drawn:
        go.Figure(figure)


def test_the_answer_comes_first_and_names_no_address_on_the_network(tmp_path: Path) -> None:
    text = report_of(write_sweep(tmp_path / "run"))
    body = text[text.index("<body>") : text.index('<script type="application/json"')]
    assert body.index("At 10 labels per class use") < body.index("<h2>")
    assert "http" not in body
    for tag in ("<link", "<script src", "@import"):
        assert tag not in text.replace('<link rel="icon" href="data:,">', "")


@pytest.mark.parametrize(
    ("objective", "head", "score", "difference"),
    [
        ("accuracy", ("test % (95 %)", "to rank 1, points"), r"\d+\.\d", r"[+-]\d+\.\d"),
        (
            "balanced_accuracy",
            ("test balanced accuracy % (95 %)", "to rank 1, points"),
            *(r"\d+\.\d", r"[+-]\d+\.\d"),
        ),
        (
            "log_loss",
            ("test log loss (95 %)", "to rank 1, nats"),
            *(r"\d\.\d{3}", r"[+-]\d\.\d{3}"),
        ),
    ],
)
def test_the_leaderboard_shows_test_scores_of_the_objective(
    tmp_path: Path, objective: str, head: tuple[str, str], score: str, difference: str
) -> None:
    sweep = write_sweep(tmp_path / "run", objective=objective)
    text = report_of(sweep)
    rows = pq.read_table(sweep / "leaderboard.parquet").to_pylist()
    names, *lines = Reader(text).tables[3]
    assert names[3:5] == list(head)
    assert any(line[4] for line in lines)
    for line in lines:
        assert re.fullmatch(rf"({score} \({score} to {score}\))?", line[3])
        assert re.fullmatch(rf"({difference} \({difference} to {difference}\))?", line[4])
    shown = {line[-1]: line[3].split(" ")[0] for line in lines if line[3]}
    tested = [row for row in rows if row["study"] == "b10" and row["test_score"] is not None]
    assert shown == {row["trial_id"]: scored(row["test_score"], objective) for row in tested}
    assert f"Test {objective.replace('_', ' ')} with 95 % intervals by labels per class" in text


def test_the_protocol_says_what_intervals_do_not_hold(tmp_path: Path) -> None:
    text = report_of(write_sweep(tmp_path / "run"))
    assert "They hold for the configuration that was chosen, and say nothing of whether" in text
    assert "not adjusted for comparing several rows" in text


def test_names_of_classes_backbones_and_sweeps_are_texts(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "run", classes=HOSTILE, backbones=HOSTILE[:2], sweep_id=HOSTILE[3]
    )
    text = report_of(sweep)
    body, _, rest = text.partition('<script type="application/json" id="figures">')
    for markup in ("<img src=x", "<script>document", "<b>bold</b>{{", "{{ 49", "</b>49"):
        assert markup not in body
    assert "</b>{{ 7 * 7 }}" in html.unescape(body)
    assert "<" not in rest[: rest.index("</script>")]
    for figure in figures(text):
        assert "<img" not in json.dumps(figure)
        assert "<script" not in json.dumps(figure)


def test_a_sweep_without_results_has_a_report(tmp_path: Path) -> None:
    text = report_of(write_sweep(tmp_path / "run", budgets=()))
    assert "No trial completed" in text
    assert "This sweep is not finished" in text
    assert figures(text) == []


def test_tables_of_an_older_version_are_read(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "run")
    make_old(sweep, *SCHEMAS)
    for table in ("curves", "predictions"):
        assert "At 10 labels per class use" in report_of(sweep)
        (sweep / f"{table}.parquet").unlink()
    assert "At 10 labels per class use" in report_of(sweep)


def test_of_many_curves_the_best_and_some_others_are_drawn(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "run", budgets=(5,), trials=2 * MOST_CURVES)
    text = report_of(sweep)
    traces = Reader(text).figures["curves"]["5 labels per class"]["data"]
    shown = {trace["text"][0].split(",")[0] for trace in traces}
    assert len(shown) == len(traces) == MOST_CURVES
    trials = pq.read_table(sweep / "trials.parquet").to_pylist()
    complete = [t for t in trials if t["state"] == "complete" and t["method"] == "finetune"]
    complete.sort(key=lambda t: -t["val_accuracy"])
    assert {t["trial_id"] for t in complete[: MOST_CURVES // 2]} <= shown
    assert f"{MOST_CURVES} of {2 * MOST_CURVES - 1} curves are drawn" in text


def test_without_its_images_a_report_says_why_it_has_no_pictures(tmp_path: Path) -> None:
    text = report_of(write_sweep(tmp_path / "run"))
    assert "Without the images: they cannot be read any more" in text
    assert "space.yaml" in text


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "run")
    with pytest.raises(StorageError, match=r"nowhere/report\.html: cannot be written"):
        write_report(Run(sweep), tmp_path / "nowhere" / "report.html")


def test_the_command_writes_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "run")
    assert command(["report", str(sweep)]) == 0
    assert command(["report", str(sweep), "-o", str(tmp_path / "mine.html")]) == 0
    assert capsys.readouterr().out == f"{sweep / 'report.html'}\n{tmp_path / 'mine.html'}\n"
    assert (sweep / "report.html").read_text() == (tmp_path / "mine.html").read_text()
    assert command(["report", str(tmp_path / "none")]) == 2
    assert "no sweep here" in capsys.readouterr().err
