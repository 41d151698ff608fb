"""What is given to the program to do harm: refused, or without effect; and what it keeps secret."""

from __future__ import annotations

import os
import pickle
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from orchestrator.recording.tables import read_table
from tests.integration.conftest import command, finished
from tests.integration.faults.sweeps import start
from tests.orchestrator.datasets.conftest import encoded, write

pytestmark = pytest.mark.faults

SEARCH = {"backbone": "tiny_strokes", "label_budget": [2]}
TOKEN = "f00dfeed" * 8


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists once harm has been done."""
    return tmp_path / "harmed"


def validate(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "own.yaml").write_text(text)
    return finished(command("validate", "own.yaml"), cwd=folder)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What a refusal says: a message, and no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_tag_of_yaml_runs_nothing(tmp_path: Path, marker: Path) -> None:
    text = f"name: !!python/object/apply:os.system ['touch {marker}']\nsearch: {{}}\n"
    assert "tags such as" in refused(validate(tmp_path, text))
    assert not marker.exists()


def test_weights_with_code_in_them_are_refused_and_run_nothing(
    tmp_path: Path, marker: Path
) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": Payload(marker)}))
    space = {
        "name": "own",
        "dataset": {"source": "digits"},
        "search": SEARCH | {"backbone": "resnet18@evil.pth"},
    }
    assert "evil.pth: refused" in refused(validate(tmp_path, yaml.safe_dump(space)))
    assert not marker.exists()


@pytest.mark.parametrize("way_out", ["../secret.png", "link/secret.png", "{outside}/secret.png"])
def test_a_table_reaches_no_file_outside_its_root(tmp_path: Path, way_out: str) -> None:
    outside, home = tmp_path / "outside", tmp_path / "outside" / "home"
    write(outside / "secret.png", encoded(9))
    for number in range(8):
        write(home / f"{number}.png", encoded(number))
    (home / "link").symlink_to(outside)
    rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(8)]
    rows.append(f"{way_out.format(outside=outside)},a")
    (home / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    space = {
        "name": "own",
        "dataset": {"source": "table", "path": "home/labels.csv"},
        "search": SEARCH,
    }
    reason = "lead through links out of" if way_out.startswith("link") else "lie outside"
    assert reason in refused(validate(outside, yaml.safe_dump(space)))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; DROP TABLE trials",
        "COPY trials TO '{marker}'",
        "SELECT * FROM read_text('/etc/hostname')",
        "ATTACH '{marker}'",
        "SET lock_configuration = false",
        "INSTALL httpfs",
    ],
)
def test_a_query_writes_nothing_and_reads_nothing_else(
    finished_copy: Path, marker: Path, statement: str
) -> None:
    before = {file.name: file.read_bytes() for file in finished_copy.glob("*.parquet")}
    asked = command("query", statement.format(marker=marker), str(finished_copy))
    refused(finished(asked, cwd=finished_copy))
    assert not marker.exists()
    assert {file.name: file.read_bytes() for file in finished_copy.glob("*.parquet")} == before


@pytest.fixture
def finished_copy(request: pytest.FixtureRequest) -> Path:
    """The directory of a finished sweep, which is only read here."""
    path: Path = request.getfixturevalue("finished")
    return path


def test_class_names_are_data_wherever_they_are_shown(tmp_path: Path, marker: Path) -> None:
    names = [f"=cmd|'touch {marker.name}'!A0", "<script>alert(1)</script>"]
    names = [name.replace("/", "_") for name in names]
    for label, name in enumerate(names):
        for number in range(12):
            write(tmp_path / "photos" / name / f"{number}.png", encoded(12 * label + number))
    space = {
        "name": "own",
        "dataset": {"source": "folder", "path": str(tmp_path / "photos"), "test": 0.3},
        "search": SEARCH,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(space))
    sweep = start(
        tmp_path / "runs",
        *("search.label_budget=[2]", "trials=1", "training={steps: 4, reports: 2}"),
        space=tmp_path / "own.yaml",
    )
    code, messages = sweep.end()
    assert code == 0, messages
    assert set(read_table(sweep.path, "predictions")["label"].to_pylist()) == set(names)
    assert "<script>alert(1)" not in (sweep.path / "report.html").read_text()
    csv = finished(
        command("query", "SELECT DISTINCT label FROM predictions", str(sweep.path), "--csv"),
        cwd=tmp_path,
    )
    assert f"'{names[0]}" in csv.stdout
    assert not marker.exists()


def test_secrets_are_written_nowhere(tmp_path: Path) -> None:
    key = "a-secret-access-key"
    with_secrets = {"RAY_AUTH_TOKEN": TOKEN, "RAY_AUTH_MODE": "token", "AWS_SECRET_ACCESS_KEY": key}
    with tempfile.TemporaryDirectory(prefix="r") as name:  # paths of sockets have to be short
        folder = Path(name)
        sweep = start(
            tmp_path / "runs",
            *("search.label_budget=[2]", "trials=1", "training={steps: 4, reports: 2}"),
            env={**with_secrets, "RAY_TMPDIR": name},
        )
        code, messages = sweep.end()
        assert code == 0, messages
        assert TOKEN not in messages
        assert key not in messages
        sessions = [file for file in folder.rglob("*") if file.is_file()]
        assert any("raylet" in file.name for file in sessions)
        for file in [*sweep.path.rglob("*"), *sessions]:
            if file.is_file():
                content = file.read_bytes()
                assert TOKEN.encode() not in content, file
                assert key.encode() not in content, file
