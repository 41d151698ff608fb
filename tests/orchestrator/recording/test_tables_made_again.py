"""Tables that are missing, torn or damaged beside a good journal."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.main import run
from orchestrator.errors import StorageError
from orchestrator.reading.loading import load_run
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import read_table, write_table
from tests.orchestrator.recording.test_projection import SPACE, Swept, swept

__all__ = ["swept"]  # the fixture


def _rename_a_column(path: Path) -> None:
    """Change one bit, after which the last column, which may be null, has another name."""
    name = SCHEMAS[path.stem].names[-1].encode()
    content = path.read_bytes()
    assert content.count(name) > 1
    path.write_bytes(content.replace(name, bytes([name[0] ^ 1]) + name[1:], 1))


Damage = Callable[[Path], object]
DAMAGE: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "a bit of a name changed": _rename_a_column,
    "of another kind": lambda path: path.write_bytes(b"<html>" * 100),
}
TOLD = {
    "missing": "the file is missing",
    "empty": "the file is empty",
    "a bit of a name changed": "this is not a whole table",
}


@pytest.fixture
def sweep(swept: Swept, tmp_path: Path) -> Path:
    """A finished sweep's directory."""
    path = tmp_path / "pets-1"
    shutil.copytree(swept.path, path)
    (path / "manifest.json").write_text(json.dumps({"sweep_id": "pets-1", "created_at": "2026"}))
    (path / "space.yaml").write_text(yaml.safe_dump(SPACE.to_json(), sort_keys=False))
    return path


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_is_made_again_and_named_in_one_line(
    sweep: Path, swept: Swept, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    DAMAGE[damage](sweep / f"{name}.parquet")
    found = load_run(sweep)
    assert found.table(name).to_pylist() == swept.rows[name]
    (told,) = _warnings(caplog)
    problem = TOLD.get(damage, "the file is torn or damaged")
    assert told.startswith(f"{sweep / name}.parquet: {problem}")
    assert told.endswith("; made again from the journal")
    assert "\n" not in told

    caplog.clear()
    assert read_table(sweep, name).to_pylist() == swept.rows[name]
    assert {other: found.table(other).to_pylist() for other in SCHEMAS} == swept.rows
    assert load_run(sweep).table(name).to_pylist() == swept.rows[name]
    assert _warnings(caplog) == []


def test_only_the_columns_asked_for_come_from_the_journal_too(sweep: Path) -> None:
    (sweep / "trials.parquet").write_bytes(b"")
    found = load_run(sweep).read("trials", columns=["state", "lr"])
    assert found.column_names == ["state", "lr"]
    assert found.num_rows > 0


def test_while_the_sweep_runs_tables_are_made_again_in_memory_alone(
    sweep: Path, swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(SweepJournal(sweep / "journal.log")):
        (sweep / "finals.parquet").write_bytes(b"torn")
        assert load_run(sweep).finals.to_pylist() == swept.rows["finals"]
        assert (sweep / "finals.parquet").read_bytes() == b"torn"
        (told,) = _warnings(caplog)
        assert told.endswith("; made again from the journal, for this once")


def test_a_running_sweep_that_has_not_written_its_tables_yet_is_read_without_a_warning(
    sweep: Path, swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    for name in SCHEMAS:
        (sweep / f"{name}.parquet").unlink()
    with closing(SweepJournal(sweep / "journal.log")):
        found = load_run(sweep)
        assert {name: found.table(name).to_pylist() for name in SCHEMAS} == swept.rows
    assert _warnings(caplog) == []
    assert not list(sweep.glob("*.parquet"))


def test_where_nothing_can_be_written_tables_are_made_again_in_memory(
    sweep: Path, swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    (sweep / "trials.parquet").unlink()
    (sweep / "trials.parquet").mkdir()  # root may write into any folder
    assert load_run(sweep).trials.to_pylist() == swept.rows["trials"]
    (told,) = _warnings(caplog)
    assert "trials.parquet: cannot be read" in told
    assert told.endswith("for this once")


def test_a_journal_in_which_nothing_has_settled_replaces_no_table(sweep: Path) -> None:
    (sweep / "journal.log").write_bytes(b"")
    (sweep / "trials.parquet").write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"trials\.parquet: .* It cannot be .* nothing that has"):
        _ = load_run(sweep).trials
    assert (sweep / "trials.parquet").read_bytes() == b"torn"
    (sweep / "trials.parquet").unlink()
    assert load_run(sweep).trials.num_rows == 0
    assert not (sweep / "trials.parquet").exists()


def test_without_a_journal_a_damaged_table_is_an_error_that_names_it(sweep: Path) -> None:
    (sweep / "journal.log").unlink()
    (sweep / "trials.parquet").write_bytes(b"torn")
    with pytest.raises(
        StorageError, match=r"trials\.parquet: the file is torn .*, and there is no journal to"
    ):
        _ = load_run(sweep).trials


def test_a_journal_damaged_amid_good_records_is_told_beside_the_table(sweep: Path) -> None:
    lines = (sweep / "journal.log").read_bytes().splitlines(keepends=True)
    (sweep / "journal.log").write_bytes(b"".join([*lines[:9], b"\0\n", *lines[9:]]))
    assert load_run(sweep).trials.num_rows > 0  # good tables need no journal
    (sweep / "trials.parquet").write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"trials\.parquet: .*journal\.log: line 10 is damaged"):
        _ = load_run(sweep).trials


def test_records_that_say_something_else_than_ours_are_told_beside_the_table(sweep: Path) -> None:
    odd = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"about": 5}}
    with (sweep / "journal.log").open("a") as file:
        file.write(json.dumps(odd) + "\n")
    (sweep / "trials.parquet").write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"trials\.parquet: .*cannot be made again from the jo"):
        _ = load_run(sweep).trials
    assert (sweep / "trials.parquet").read_bytes() == b"torn"


def test_a_journal_with_garbage_at_its_end_still_makes_the_tables(
    sweep: Path, swept: Swept
) -> None:
    with (sweep / "journal.log").open("ab") as file:
        file.write(b"\0" * 100)
    (sweep / "trials.parquet").write_bytes(b"torn")
    assert load_run(sweep).trials.to_pylist() == swept.rows["trials"]


COMMANDS = {
    "leaderboard": ["leaderboard", "--json"],
    "leaderboard as a table": ["leaderboard"],
    "target": ["leaderboard", "--target", "0.5", "--json"],
    "query": ["query", "SELECT trial_id, state FROM trials ORDER BY 1", "--csv"],
    "query of all": ["query", "SELECT count(*) FROM finals, predictions, curves", "--csv"],
    "status": ["status", "--json"],
    "report": ["report"],
}


@pytest.mark.parametrize("damage", ["missing", "torn"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_answers_as_before(
    sweep: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command: list[str],
    damage: str,
) -> None:
    assert run([*command, str(sweep)]) == 0
    expected = capsys.readouterr().out
    for name in SCHEMAS:
        DAMAGE[damage](sweep / f"{name}.parquet")
    assert run([*command, str(sweep)]) == 0
    assert capsys.readouterr().out == expected
    assert len(_warnings(caplog)) == (command[0] != "status")


def test_the_warning_is_one_line_on_stderr_and_no_traceback(sweep: Path) -> None:
    (sweep / "leaderboard.parquet").write_bytes(b"torn")
    start = "import sys; from orchestrator.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, "leaderboard", "--csv", str(sweep)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 0
    assert done.stdout.startswith("sweep_id,")
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"{sweep}/leaderboard.parquet: the file is torn or damaged")


def test_a_table_of_an_older_version_is_no_damage(
    sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_table(sweep, "finals", [{"sweep_id": "pets-1", "trial_id": "b2-0000", "repeat": 0}])
    assert load_run(sweep).finals.num_rows == 1
    assert _warnings(caplog) == []
