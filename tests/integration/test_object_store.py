"""A sweep whose results live in an object store: launched, killed, taken up elsewhere, read."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from shutil import rmtree

import pytest

from orchestrator.recording.stores import Place, locate
from orchestrator.recording.stores.objects import Store
from tests.integration.conftest import LOWDATA, TIMEOUT_S, command
from tests.integration.faults.sweeps import OVERRIDES, results, settled
from tests.object_store import BUCKET, CREDENTIALS, endpoint
from trainable.features.store import FOLDER_VARIABLE

__all__ = ["endpoint"]

pytestmark = pytest.mark.faults


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place in a store, which this process and those it starts can reach."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    found = locate(f"s3://{BUCKET}/sweeps")
    assert isinstance(found, Place)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder in which sweeps of a store are worked on."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _run(*arguments: str) -> str:
    """What a command prints that ends well."""
    with _start(*arguments) as process:
        output, messages = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, messages
    return output


def _launch(out: str) -> tuple[str, ...]:
    given = [part for override in OVERRIDES for part in ("--set", override)]
    return ("launch", str(LOWDATA), "--out", out, "--json", *given)


def _only(store: Place) -> Place | None:
    """The one sweep in a store, once it has a manifest."""
    found = [name for name in Store(store).list() if name.endswith("/manifest.json")]
    return store / found[0].partition("/")[0] if found else None


def _journal(store: Place) -> bytes:
    """The journal of the one sweep in a store; empty before there is one."""
    place = _only(store)
    return b"" if place is None else Store(place).read("journal.log") or b""


def _settled(content: bytes, folder: Path) -> int:
    """Trials that are over by a journal."""
    if not content:
        return 0
    folder.mkdir(exist_ok=True)
    (folder / "journal.log").write_bytes(content)
    return settled(folder)


def _is_half_way(store: Place, home: Path, folder: Path) -> bool:
    """Whether the store knows of a trial that is over; or it will soon be too late to look."""
    here = [path.read_bytes() for path in (home / "sweeps").glob("*/*/journal.log")]
    return _settled(_journal(store), folder) > 0 or (
        _only(store) is not None and any(_settled(content, folder) >= 5 for content in here)
    )


@pytest.mark.slow
def test_a_sweep_in_a_store_outlives_its_machine(store: Place, home: Path, tmp_path: Path) -> None:
    with _start(*_launch(str(store))) as process:
        try:
            until = time.monotonic() + TIMEOUT_S
            while not _is_half_way(store, home, tmp_path / "seen"):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until
                time.sleep(0.2)
        finally:
            process.kill()
    (local,) = (home / "sweeps").glob("*/*/journal.log")
    assert local.read_bytes().startswith(_journal(store))
    rmtree(home / "sweeps")
    place = _only(store)
    assert place is not None
    assert "unfinished" in _run("status", str(place))
    rmtree(home / "sweeps")

    output = json.loads(_run("resume", str(place), "--json"))
    assert output["run"] == str(place)
    assert f"sft-sweep leaderboard {place}" in "\n".join(output["answer"])
    rmtree(home / "sweeps")
    assert not any(
        CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() in (Store(place).read(name) or b"")
        for name, (size, _) in Store(place).list().items()
        if size >= 0
    )

    undisturbed = json.loads(_run(*_launch(str(tmp_path / "runs"))))
    rows = json.loads(_run("leaderboard", str(place), "--json"))
    assert rows[0]["val_objective"] == undisturbed["leaderboard"][0]["val_objective"]
    (folder,) = (home / "sweeps").glob(f"*/{place.name}")
    assert results(folder) == results(Path(undisturbed["run"]))
    counted = _run("query", "SELECT count(*) AS n FROM trials", str(place), "--json")
    assert json.loads(counted) == [{"n": 10}]
    assert json.loads(_run("status", str(place), "--json"))["state"] == "finished"
    assert [row["run"] for row in json.loads(_run("list", "--out", str(store), "--json"))] == [
        str(place)
    ]


def test_a_store_that_is_not_there_ends_a_launch_before_it_begins(home: Path) -> None:
    with _start(*_launch("s3://results/x?endpoint_override=127.0.0.1:1&scheme=http")) as process:
        output, messages = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4
    assert output == ""
    assert "127.0.0.1:1 cannot be reached" in messages
    assert not (home / "sweeps").exists()
