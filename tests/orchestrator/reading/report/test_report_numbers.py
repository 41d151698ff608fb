"""What stands in a report is what DuckDB computes from the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestrator.reading.report import write_report
from orchestrator.recording.sweep_directory import Run
from orchestrator.text import number, percent, points
from tests.builders.synthetic_sweeps import write_sweep

LABELS = {"b2": "2 labels per class", "b5": "5 labels per class", "b10": "10 labels per class"}


class Reader(HTMLParser):
    """Tables as rows of texts, figures as JSON, and the items of lists."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.items: list[str] = []
        self.figures: dict[str, Any] = {}
        self._into: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._into = "cell"
        elif tag == "li":
            self.items.append("")
            self._into = "item"
        elif tag == "script":
            self._into = "figures" if ("id", "figures") in attrs else None

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "li", "script"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into == "cell":
            self.tables[-1][-1][-1] += data.strip()
        elif self._into == "item":
            self.items[-1] += " ".join(data.split())
        elif self._into == "figures":
            self.figures = json.loads(data)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("runs") / "made-up")


@pytest.fixture(scope="module")
def page(sweep: Path) -> Reader:
    write_report(Run(sweep), sweep / "report.html")
    return Reader((sweep / "report.html").read_text())


@pytest.fixture(scope="module")
def sql(sweep: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name in ("trials", "curves", "finals", "predictions", "leaderboard"):
            connection.execute(
                f"create view {name} as from read_parquet('{sweep / f'{name}.parquet'}')"
            )
        yield connection


WINNER = """(select trial_id from leaderboard where study = 'b10' and rank is not null
    and test_score is not null order by rank limit 1)"""


def test_the_efficiency_curve(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    wanted = sql.execute(
        """
        with best as (
            select method, backbone, label_budget, arg_min(trial_id, coalesce(rank, 0)) as trial_id
            from leaderboard where test_score is not null group by all)
        select l.method, l.backbone, l.label_budget, l.test_score, l.test_ci_low, l.test_ci_high,
            l.trial_id, avg(f.test_accuracy)
        from best join leaderboard l using (trial_id) join finals f using (trial_id) group by all
        """
    ).fetchall()
    assert sorted(page.tables[0][1:]) == sorted(
        [method, backbone or "", number(labels), percent(mean), percent(low), percent(high), trial]
        for method, backbone, labels, mean, low, high, trial, _ in wanted
    )
    assert all(mean == pytest.approx(of_repeats) for *_, mean, _, _, _, of_repeats in wanted)
    (panel,) = page.figures["efficiency"].values()
    drawn = sorted(
        (y, y + up, y - down)
        for trace in panel["data"]
        for y, up, down in zip(
            trace["y"], trace["error_y"]["array"], trace["error_y"]["arrayminus"], strict=True
        )
    )
    numbers = sorted((100 * row[3], 100 * row[5], 100 * row[4]) for row in wanted)
    assert drawn == [pytest.approx(line) for line in numbers]


def test_the_leaderboard(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    for table, study in zip(page.tables[1:4], LABELS, strict=True):
        rows = sql.execute(
            """
            select rank, backbone, method, test_score, test_ci_low, test_ci_high, diff_to_best,
                diff_ci_low, diff_ci_high, tied_with_best, freeze_depth, lr, val_accuracy, num_val,
                gain_over_start, duration_s, trial_id
            from leaderboard where study = ? and (rank <= 5 or test_score is not null)
            """,
            [study],
        ).fetchall()
        assert len(rows) == len(table) - 1
        for row, cells in zip(rows, table[1:], strict=True):
            rank, backbone, method, mean, low, high, gain, least, most, tied, *rest = row
            test = "" if mean is None else f"{percent(mean)} ({percent(low)} to {percent(high)})"
            compared = gain is not None and rank != 1
            difference = f"{points(gain)} ({points(least)} to {points(most)})" if compared else ""
            tie = {True: "tied", False: "differs"}[tied] if compared else ""
            depth, lr, val, num_val, over_start, duration, trial_id = rest
            assert cells == [
                *(str(rank or ""), backbone or "", method, test, difference, tie, number(depth)),
                *(number(lr, 2), percent(val), str(num_val), points(over_start)),
                *(number(duration), trial_id),
            ]


def test_the_map_of_depths_and_rates(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    for study, label in LABELS.items():
        drawn = {
            about.split(",")[0]: (x, y, colour)
            for trace in page.figures["depth-and-rate"][label]["data"]
            for x, y, colour, about in zip(
                trace["x"],
                trace["y"],
                trace["marker"]["color"]
                if isinstance(trace["marker"]["color"], list)
                else [None] * len(trace["x"]),
                trace["text"],
                strict=True,
            )
        }
        rows = sql.execute(
            """select trial_id, lr, freeze_depth,
                case when state = 'complete' then 100 * val_accuracy end
            from trials where study = ? and method = 'finetune'""",
            [study],
        ).fetchall()
        assert drawn == {trial: pytest.approx(rest) for trial, *rest in rows}


def test_the_learning_curves(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    for study, label in LABELS.items():
        drawn = {
            trace["text"][0].split(",")[0]: (trace["x"], trace["y"])
            for trace in page.figures["curves"][label]["data"]
        }
        rows = sql.execute(
            """
            select trial_id, list(c.step order by report),
                list(100 * c.val_accuracy order by report)
            from curves c join trials t using (trial_id) where study = ? group by trial_id
            """,
            [study],
        ).fetchall()
        assert drawn == {trial: (steps, pytest.approx(some)) for trial, steps, some in rows}


def test_the_front_of_accuracy_and_time(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    for study, label in LABELS.items():
        front = page.figures["pareto"][label]["data"][-1]
        rows = sql.execute(
            """
            with t as (from trials where study = ? and method = 'finetune' and state = 'complete')
            select duration_s, 100 * val_accuracy from t where not exists (
                from t other where other.trial_id <> t.trial_id and other.duration_s <= t.duration_s
                and other.val_accuracy >= t.val_accuracy)
            order by duration_s
            """,
            [study],
        ).fetchall()
        assert list(zip(front["x"], front["y"], strict=True))[:-1] == [
            pytest.approx(row) for row in rows
        ]


def test_the_classes_of_the_winner(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    rows = sql.execute(
        f"""select label, 100 * avg((label = predicted)::int), count(*) || ' answers'
        from predictions where trial_id = {WINNER} group by label order by 2 desc, 1 desc"""
    ).fetchall()
    (panel,) = page.figures["class-scores"].values()
    (bars,) = panel["data"]
    shown = list(zip(bars["y"], bars["x"], bars["text"], strict=True))
    assert shown == [(name, pytest.approx(share), count) for name, share, count in rows]


def test_the_confusion_of_the_winner(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    rows = sql.execute(
        f"""
        with cells as (select label, predicted, count(*) as n from predictions
            where trial_id = {WINNER} group by all)
        select label, predicted, 100 * n / sum(n) over (partition by label) from cells
        """
    ).fetchall()
    (panel,) = page.figures["confusion"].values()
    names = panel["layout"]["xaxis"]["ticktext"]
    cells = panel["data"][0]["z"]
    wrong = {
        (true, taken): cells[i][j]
        for i, true in enumerate(names)
        for j, taken in enumerate(names)
        if cells[i][j]
    }
    assert wrong == {(a, b): pytest.approx(share) for a, b, share in rows if a != b}
    written = panel["data"][1]
    numbers = zip(written["y"], written["x"], written["text"], strict=True)
    assert {(names[i], names[j]): text for i, j, text in numbers} == {
        (a, b): f"{share:.1f}" for a, b, share in rows
    }


def test_the_surest_mistakes(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    rows = sql.execute(
        f"""select label, mode(predicted order by predicted) filter (predicted <> label),
            count(*) filter (predicted <> label), count(*), avg(label_probability), path
        from predictions where trial_id = {WINNER} group by image_id, label, path
        having count(*) filter (predicted <> label) > 0 order by 5, image_id limit 18"""
    ).fetchall()
    assert rows
    assert page.items == [
        f"{label}taken for{taken}wrong in {wrong} of {every}; right class at {percent(p)} %{path}"
        for label, taken, wrong, every, p, path in rows
    ]


def test_what_it_cost(page: Reader, sql: duckdb.DuckDBPyConnection) -> None:
    rows = sql.execute(
        """
        with finalists as (
            select t.study, sum(f.duration_s) as s from finals f join trials t using (trial_id)
            where t.method = 'finetune' group by 1),
        baselines as (select study, sum(duration_s) as s from trials where method <> 'finetune'
            group by 1)
        select study, count(*) filter (state = 'complete'), count(*) filter (state = 'pruned'),
            count(*) filter (state = 'failed'), sum(duration_s),
            any_value(finalists.s) + any_value(baselines.s), sum(steps),
            sum((spec->>'steps')::int)
        from trials join finalists using (study) join baselines using (study)
        where method = 'finetune' group by study, label_budget order by label_budget
        """
    ).fetchall()
    assert page.tables[4][1:] == [
        [
            *(study, str(complete), str(pruned), str(failed), f"{trials:,.0f}", f"{others:,.0f}"),
            *(f"{steps:,}", f"{planned:,}", f"{percent(1 - steps / planned)} %"),
        ]
        for study, complete, pruned, failed, trials, others, steps, planned in rows
    ]
