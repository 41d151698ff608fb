from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.reading.loading import LoadedRun
from orchestrator.reading.query import query
from orchestrator.recording.table_schemas import SCHEMAS
from tests.builders.old_tables import make_old
from tests.builders.written_sweeps import digits_sweep, loaded


@pytest.fixture
def one(tmp_path: Path) -> LoadedRun:
    return loaded(tmp_path / "one")


def ask(sql: str, *runs: LoadedRun) -> list[dict[str, Any]]:
    with query(sql, runs) as result:
        return [row for batch in result.batches for row in batch.to_pylist()]


def names(sql: str, runs: Sequence[LoadedRun]) -> list[str]:
    with query(sql, runs) as result:
        return list(result.schema.names)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_table_is_there_with_all_its_rows(one: LoadedRun, name: str) -> None:
    (row,) = ask(f"SELECT count(*) AS n, any_value(sweep_id) AS sweep FROM {name}", one)
    assert row == {"n": one.table(name).num_rows, "sweep": "one"}
    assert names(f"FROM {name}", [one])[0] == "sweep_id"


def test_rows_of_several_sweeps_are_told_apart_by_their_sweep_id(tmp_path: Path) -> None:
    runs = [loaded(tmp_path / name) for name in ("one", "two")]
    for name in SCHEMAS:
        rows = ask(f"SELECT sweep_id, count(*) AS n FROM {name} GROUP BY 1 ORDER BY 1", *runs)
        count = runs[0].table(name).num_rows
        assert rows == [{"sweep_id": "one", "n": count}, {"sweep_id": "two", "n": count}]


def test_tables_join_and_params_open_as_json(one: LoadedRun) -> None:
    rows = ask(
        "SELECT t.params->>'seen_in' AS seen, avg(f.test_accuracy) AS test FROM trials t "
        "JOIN finals f USING (sweep_id, trial_id) WHERE method = 'finetune' GROUP BY 1 ORDER BY 1",
        one,
    )
    assert rows == [
        {"seen": "b10-0001", "test": pytest.approx(0.9)},
        {"seen": "b2-0001", "test": pytest.approx(0.8)},
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "WITH x AS (SELECT 1 AS n) FROM x",
        "VALUES (1);",
        "DESCRIBE trials",
        "SUMMARIZE finals",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "PIVOT leaderboard ON label_budget USING max(val_accuracy) GROUP BY backbone",
        "FROM query_table('tri' || 'als')",
    ],
)
def test_whatever_reads_is_allowed(one: LoadedRun, sql: str) -> None:
    assert ask(sql, one)


def test_a_table_that_is_named_in_parts_only_has_its_rows_too(one: LoadedRun) -> None:
    assert len(ask("FROM query_table('tri' || 'als')", one)) == 8
    assert len(ask("FROM query('FROM tri' || 'als')", one)) == 8
    assert len(ask('FROM "TRIALS"', one)) == 8


def test_only_the_tables_that_are_asked_for_are_read(one: LoadedRun) -> None:
    (one.path / "predictions.parquet").write_bytes(b"torn")
    assert len(ask("FROM trials", one)) == 8


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1; SELECT 2", "got 2 statements; exactly one is allowed"),
        ("", "got 0 statements"),
        ("-- nothing", "got 0 statements"),
        ("COPY trials TO '{file}'", "type COPY; allowed is what reads: SELECT"),
        ("EXPORT DATABASE '{file}'", "type EXPORT"),
        ("ATTACH '{file}'", "type ATTACH"),
        ("CREATE TABLE x AS SELECT 1", "type CREATE"),
        ("DROP VIEW trials", "type DROP"),
        ("INSERT INTO trials VALUES (1)", "type INSERT"),
        ("DELETE FROM trials", "type DELETE"),
        ("INSTALL httpfs", "type LOAD"),
        ("LOAD httpfs", "type LOAD"),
        ("SET threads = 1", "type SET"),
        ("RESET memory_limit", "type SET"),
        ("PRAGMA database_list", "type PRAGMA"),
        ("CALL pragma_version()", "type CALL"),
        ("USE memory", "type SET"),
        ("PREPARE x AS SELECT 1", "type PREPARE"),
        ("BEGIN", "type TRANSACTION"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'", "reads the tables of sweeps and nothing"),
        ("FROM read_csv('{secret}')", "reads the tables of sweeps and nothing"),
        ("FROM read_text('{secret}')", "reads the tables of sweeps and nothing"),
        ("FROM read_parquet('{secret}')", "reads the tables of sweeps and nothing"),
        ("FROM sniff_csv('{secret}')", "reads the tables of sweeps and nothing"),
        ("FROM glob('/*')", "reads the tables of sweeps and nothing"),
        ("FROM '{secret}'", "reads the tables of sweeps and nothing"),
        ("FROM read_csv('https://example.com/x.csv')", "query: "),
        ("FROM tables", "Table with name tables does not exist"),
        ("FROM runs", "Table with name runs does not exist"),
        ("SELECT getenv('HOME')", "getenv does not exist"),
    ],
)
def test_nothing_but_the_tables_can_be_reached_or_changed(
    one: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        ask(sql.format(file=tmp_path / "written", secret=secret), one)
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT learning_rate FROM trials", '"learning_rate" not found in FROM clause'),
        ("FROM trails", "Table with name trails does not exist"),
        ("SELEC 1", "syntax error at or near"),
    ],
)
def test_a_wrong_name_is_told_with_the_names_that_exist(
    one: LoadedRun, sql: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ask(sql, one)
    text = str(caught.value)
    assert "\nThe tables and their columns:\n  trials: sweep_id, trial_id, study, " in text
    assert "\n  leaderboard: sweep_id, label_budget, study, " in text


def test_an_error_amid_the_result_is_told_like_one_at_its_start(one: LoadedRun) -> None:
    sql = "SELECT CAST(CASE WHEN range = 5000000 THEN 'x' ELSE '1' END AS INT) FROM range(6000000)"
    with query(sql, [one]) as result:
        assert next(result.batches).num_rows
        with pytest.raises(UsageError, match="query: Conversion Error: Could not convert string"):
            list(result.batches)


def test_columns_of_one_name_are_numbered(one: LoadedRun) -> None:
    sql = "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a"
    assert names(sql, [one]) == ["a", "a_2", "a_1", "a_3"]
    assert ask(sql, one) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]


def test_times_are_utc_wherever_the_machine_is(
    one: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        (row,) = ask("SELECT CAST(TIMESTAMPTZ '2026-01-31 12:00:00+00' AS VARCHAR) AS t", one)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert row["t"] == "2026-01-31 12:00:00+00"


def test_older_and_missing_tables_are_read_with_nulls(one: LoadedRun) -> None:
    make_old(one.path, "trials")
    (one.path / "curves.parquet").unlink()
    assert ask("SELECT count(*) AS n, count(image_size) AS known FROM trials", one) == [
        {"n": 8, "known": 0}
    ]
    assert ask("FROM curves", one) == []


def test_a_result_larger_than_memory_is_streamed(one: LoadedRun) -> None:
    seen = 0
    with query("FROM range(100_000_000_000)", [one]) as result:
        for batch in result.batches:
            seen += batch.num_rows
            if seen > 1_000_000:
                break
    assert seen < 2_000_000


ENDLESS = {
    "at its start": "SELECT count(*) FROM range(10_000_000_000_000) t(i) WHERE i % 7 = 3",
    "amid the result": "SELECT i FROM range(10_000_000_000_000) t(i) WHERE i = 0 OR i < 0",
    "between rows": "FROM range(10_000_000_000_000)",
}


@pytest.mark.parametrize("where", ENDLESS)
def test_an_interrupt_ends_a_query_at_once(tmp_path: Path, where: str) -> None:
    run = digits_sweep(tmp_path / "one")
    code = (
        "import sys, orchestrator.reading.query; from orchestrator.cli.main import run;"
        "print('begun', flush=True);"
        f"sys.exit(run(['query', {ENDLESS[where]!r}, {str(run)!r}, '-o', {str(tmp_path)!r} "
        "+ '/x.csv']))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        time.sleep(2.5)
        assert started.poll() is None, started.communicate()
        began = time.monotonic()
        os.kill(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=20)
    finally:
        started.kill()
    assert started.returncode == 130
    assert time.monotonic() - began < 10
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
