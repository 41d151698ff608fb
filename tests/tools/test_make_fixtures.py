"""What `tools/make_fixtures.py` waits for and refuses; sweeps are not run here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.make_fixtures import _check_anonymous, _is_amid, main

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sweeps-0.2.0"


@pytest.mark.parametrize(("name", "amid"), [("killed", True), ("finished", False)])
def test_sweep_is_killed_once_a_running_trial_has_a_report_and_a_checkpoint(
    name: str, amid: bool
) -> None:
    assert _is_amid(FIXTURES / name / "manifest.json") is amid


def test_sweep_without_its_checkpoint_is_not_killed_yet(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    shutil.copytree(FIXTURES / "killed", path, ignore=shutil.ignore_patterns("checkpoints"))
    assert not _is_amid(path / "manifest.json")


@pytest.mark.parametrize("name", ["finished", "killed", "totals", "views"])
def test_committed_fixtures_name_no_machine(name: str) -> None:
    _check_anonymous(FIXTURES / name)


def test_fixture_that_names_its_machine_is_refused(tmp_path: Path) -> None:
    path = Path(shutil.copytree(FIXTURES / "views", tmp_path / "views"))
    journal = path / "journal.log"
    journal.write_text(journal.read_text().replace('"host":"host"', '"host":"olive"', 1))
    with pytest.raises(SystemExit, match="names olive"):
        _check_anonymous(path)


def test_directory_that_is_there_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FIXTURES), "--name", "views"]) == 0
    assert capsys.readouterr().out == f"{FIXTURES / 'views'}: is there already\n"


def test_unknown_name_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(FIXTURES), "--name", "view"])
    assert "finished, killed, totals, views" in capsys.readouterr().err
