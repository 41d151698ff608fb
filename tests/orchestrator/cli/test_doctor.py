from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.running.ray_tune.admission import CONNECT_TIMEOUT_S
from trainable.features.store import FOLDER_VARIABLE


def test_the_doctor_looks_at_this_machine_without_ray(tmp_path: Path) -> None:
    program = (
        "import sys; from orchestrator.cli.main import run;"
        "code = run(['doctor', '--json', '--out', sys.argv[1]]);"
        "assert 'ray' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checks = {check["what"]: check for check in json.loads(done.stdout)}
    assert str(tmp_path) in checks["room for sweeps"]["found"]
    assert {"python", "packages", "texts", "device", "cpus", "memory", "token"} <= set(checks)
    assert "hub" in checks["room for weights"]["found"]
    assert {check["level"] for check in checks.values()} <= {"ok", "warning"}


def test_the_doctor_tells_people_one_thing_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "problem") for line in lines)


def test_a_folder_that_cannot_be_written_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert run(["doctor", "--out", str(tmp_path / "runs")]) == 4
    assert "this user may not write there" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert CONNECT_TIMEOUT_S <= 10
    assert run(["doctor", "--address", "127.0.0.1:1"]) == 4
    assert "nothing answers there" in capsys.readouterr().err


def test_a_store_is_written_to_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "home"))
    (tmp_path / "bucket").mkdir()
    assert run(["doctor", "--out", f"file://{tmp_path}/bucket"]) == 0
    assert "bucket: can be written" in capsys.readouterr().out
    assert list((tmp_path / "bucket").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    assert run(["doctor", "--out", f"file://{tmp_path}/file/bucket"]) == 4
    assert "problem  store" in capsys.readouterr().out
