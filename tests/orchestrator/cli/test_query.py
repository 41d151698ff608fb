from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.cli.main import run
from orchestrator.cli.output import query_output
from tests.builders.written_sweeps import digits_sweep, write_sweep
from tests.orchestrator.recording.test_leaderboard import trial

NASTY = "=cmd|' /C calc'!A0 <b>\x1b[2J\n\"quoted\", [red]"


@pytest.fixture
def one(tmp_path: Path) -> str:
    return str(digits_sweep(tmp_path / "one"))


@pytest.fixture
def nasty(tmp_path: Path) -> str:
    return str(write_sweep(tmp_path / "nasty", trials=[trial("b2-0000", 0.5, backbone=NASTY)]))


def test_a_result_is_a_table_for_people(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT backbone, count(*) AS n, avg(val_objective) AS mean FROM trials GROUP BY 1"
    assert run(["query", f"{sql} ORDER BY 2 DESC, 1", one]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "backbone       n      mean",
        "─────────────  ─  ────────",
        "tiny_strokes   3  0.733333",
        "resnet18       2       0.8",
        "tiny_fractals  2       0.9",
        "               1       0.3",
        "4 rows",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_the_line_below_the_header_is_as_wide_as_the_columns_in_any_encoding(
    one: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sink, encoding=encoding))
    assert run(["query", "SELECT 'wide enough' AS a, 2 AS b", one]) == 0
    sys.stdout.flush()
    header, rule, row = sink.getvalue().decode(encoding).splitlines()[:3]
    assert (header, row) == ("a            b", "wide enough  2")
    assert len(rule) == len(row)


def test_a_value_is_never_cut_short(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT repeat('long ', 100) AS a, 2 AS b", one]) == 0
    assert "long " * 100 in capsys.readouterr().out


def test_a_row_wider_than_the_terminal_is_shown_upright(
    one: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    assert run(["query", "SELECT 'x' AS name, repeat('y', 40) AS long", one]) == 0
    out = capsys.readouterr().out
    assert out == f"-- row 1\nname  x\nlong  {'y' * 40}\n1 row\n"


def test_people_are_shown_the_first_rows_and_told_of_the_others(
    one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", f"FROM range({query_output.MOST_ROWS})", one]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "200 rows"
    assert run(["query", f"FROM range({query_output.MOST_ROWS + 1})", one]) == 0
    *_, last, told = capsys.readouterr().out.splitlines()
    assert last.strip() == "199"
    assert told == "the first 200 rows; all of them with --csv, --json or -o FILE"


def test_csv_has_a_header_even_without_rows(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT trial_id, lr FROM trials WHERE lr > 5", one, "--csv"]) == 0
    assert capsys.readouterr().out == "trial_id,lr\n"


def test_csv_and_json_say_the_same_of_every_kind_of_value(
    one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = (
        "SELECT 1 AS i, 2.5::DOUBLE AS f, 1.50::DECIMAL(9, 2) AS d, true AS b, NULL AS n, "
        "'nan'::DOUBLE AS nan, 'é' AS s, DATE '2026-01-31' AS day, [1, NULL] AS l, "
        "{'a': TIMESTAMP '2026-01-31 12:00:00'} AS t, 'ab'::BLOB AS x, 2::HUGEINT AS h, "
        "INTERVAL 1 DAY AS later"
    )
    assert run(["query", sql, one, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row == {
        "i": 1,
        "f": 2.5,
        "d": 1.5,
        "b": True,
        "n": None,
        "nan": None,
        "s": "é",
        "day": "2026-01-31",
        "l": [1, None],
        "t": {"a": "2026-01-31T12:00:00"},
        "x": "6162",
        "h": 2,
        "later": "P0M1DT0S",
    }
    assert run(["query", sql, one, "--csv"]) == 0
    (cells,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (cells["i"], cells["f"], cells["d"], cells["b"]) == ("1", "2.5", "1.50", "true")
    assert (cells["n"], cells["day"], cells["l"]) == ("", "2026-01-31", "[1, null]")
    assert cells["t"] == '{"a": "2026-01-31T12:00:00"}'
    assert cells["later"] == "P0M1DT0S"


def test_a_value_that_python_lacks_is_told(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT DATE '5000-01-01 (BC)' AS d", one]) == 2
    assert "cast the column to VARCHAR" in capsys.readouterr().err


def test_the_name_of_the_file_says_the_form(one: str, tmp_path: Path) -> None:
    sql = "SELECT trial_id, rank FROM leaderboard WHERE rank = 1"
    for name in ("out.parquet", "out.csv", "out.JSON"):
        assert run(["query", sql, one, "-o", str(tmp_path / name)]) == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pydict() == {"trial_id": ["b2-0001", "b10-0001"], "rank": [1, 1]}
    assert (tmp_path / "out.csv").read_text() == "trial_id,rank\nb2-0001,1\nb10-0001,1\n"
    assert json.loads((tmp_path / "out.JSON").read_text()) == table.to_pylist()


def test_a_flag_says_the_form_whatever_the_name(one: str, tmp_path: Path) -> None:
    assert run(["query", "SELECT 1 AS a", one, "--csv", "-o", str(tmp_path / "out.txt")]) == 0
    assert (tmp_path / "out.txt").read_text() == "a\n1\n"


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.table"])
def test_a_name_that_says_no_form_is_refused(
    one: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["query", "SELECT 1", one, "-o", str(tmp_path / name)]) == 2
    assert "allowed: .csv, .json, .parquet" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_parquet_goes_through_a_pipe(one: str, tmp_path: Path) -> None:
    code = "from orchestrator.cli import main; main()"
    command = [sys.executable, "-c", code, "query", "FROM finals", one, "--parquet"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows == 12


def test_parquet_to_a_terminal_is_refused(
    one: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["query", "SELECT 1", one, "--parquet"]) == 2
    captured = capsys.readouterr()
    assert "not to a terminal; add -o FILE" in captured.err
    assert captured.out == ""


def test_what_parquet_cannot_hold_is_told_and_nothing_is_left(
    one: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    assert run(["query", "SELECT INTERVAL 1 DAY AS later", one, "-o", str(out)]) == 2
    assert "cast the column" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    one: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")
    sql = "SELECT CAST(CASE WHEN range = 50000 THEN 'x' ELSE '1' END AS INT) FROM range(60000)"
    assert run(["query", sql, one, "-o", str(out)]) == 2
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out.csv"]
    assert run(["query", "SELECT 1", one, "-o", str(tmp_path / "none" / "out.csv")]) == 4
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_only_one_form_can_be_asked_for(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT 1", one, "--csv", "--json"]) == 2
    assert "one of them at most" in capsys.readouterr().err


def test_an_error_in_the_statement_is_a_usage_error(
    one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", "SELECT nothing FROM trials", one]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 'Referenced column "nothing" not found' in captured.err
    assert "  finals: sweep_id, trial_id, repeat" in captured.err
    assert "Traceback" not in captured.err


def test_names_from_outside_do_no_harm(nasty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT backbone FROM trials", nasty]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 4
    assert run(["query", "SELECT backbone FROM trials", nasty, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["backbone"] == "'" + NASTY
    assert run(["query", "SELECT backbone FROM trials", nasty, "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out) == [{"backbone": NASTY}]


def test_csv_on_a_terminal_steers_nothing(
    nasty: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["query", "SELECT backbone FROM trials", nasty, "--csv"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(one: str) -> None:
    command = f"{sys.executable} -c 'from orchestrator.cli import main; main()' query"
    done = subprocess.run(
        ["bash", "-c", f"{command} 'FROM range(10000000)' {one} --csv | head -2"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "range\n0\n"
    assert done.stderr == ""
