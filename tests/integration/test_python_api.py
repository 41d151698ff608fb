"""The Python API for real, and the programs in `examples/`: one sweep serves all of them."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from examples import compare_budgets, export_and_predict, photo_folder, read_run
from orchestrator.api import sweeps
from orchestrator.api.progress_lines import ProgressLines
from orchestrator.api.sweeps import SweepResult, resume_sweep
from orchestrator.recording.sweep_directory import Run
from orchestrator.space import load_space
from tests.integration.conftest import LOWDATA, REPOSITORY, TIMEOUT_S
from trainable.export import written_model

PAGE = (REPOSITORY / "docs" / "python-api.md").read_text(encoding="utf-8")
RUN_NAME = "lowdata-20260131-142530"
"""The sweep that snippets speak of."""

SEEN = (compare_budgets, export_and_predict, photo_folder, read_run)
"""The examples that this module runs."""


def snippets() -> dict[str, str]:
    """The code of the page, and of each docstring that has any, by its name."""
    found = {"docs/python-api.md": "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))}
    for thing in (orchestrator, *(getattr(orchestrator, name) for name in orchestrator.__all__)):
        before_arguments = inspect.cleandoc(thing.__doc__).partition("Args:")[0]
        if not inspect.isclass(thing):
            indented = re.findall(r"^    .*", before_arguments, re.MULTILINE)
            found[thing.__name__] = textwrap.dedent("\n".join(indented))
    return found


SNIPPETS = snippets()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A sweep launched, interrupted, and resumed in a thread: what was seen, and was printed."""
    folder = tmp_path_factory.mktemp("session")
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.python_api_session", str(folder)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen | {"messages": done.stderr, "photos": folder / "photos"}


@pytest.fixture(scope="module")
def run(session: dict[str, Any]) -> Path:
    """The directory of the finished sweep."""
    return Path(session["resumed"]["run"])


@pytest.fixture
def _quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports leave out the portable files, which take long."""
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])


def test_the_stop_button_ends_a_sweep_that_can_go_on(session: dict[str, Any]) -> None:
    launched = session["launched"]
    assert launched["interrupted"]
    assert launched["signal"] == 2
    assert not launched["report"]
    assert "Ctrl-C, or the stop button of a notebook, ends it" in session["messages"]
    assert "stopping: what has settled is kept" in session["messages"]
    assert f"Go on with: orchestrator.resume({launched['run']!r})" in session["messages"]


def test_a_sweep_runs_to_its_end_in_another_thread(session: dict[str, Any]) -> None:
    resumed = session["resumed"]
    assert resumed["run"] == session["launched"]["run"]
    assert not resumed["interrupted"]
    assert resumed["failures"] == 0
    assert resumed["report"]
    assert resumed["answer"][0].startswith("At 4 labels per class use ")
    assert "it is not in the main thread" in session["messages"]


def test_nothing_of_the_process_is_left_changed(session: dict[str, Any]) -> None:
    assert session["launched"]["changed"] == []
    assert session["resumed"]["changed"] == []


def test_a_finished_sweep_is_read_without_a_cluster(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = orchestrator.resume(orchestrator.load_run(run))
    assert again.report == run / "report.html"
    assert str(again).startswith("At 4 labels per class use ")
    assert capsys.readouterr().out == ""


def test_an_example_looks_into_the_sweep(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_run.main(run)
    said = capsys.readouterr().out
    assert said.startswith(f"{run.name}, with sft-sweep ")
    assert re.search(r"^b4 +finetune +complete +2$", said, re.MULTILINE)
    assert "mean_probability" in said


def test_an_example_compares_budgets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_budgets.main(run)
    *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["2", "4"]
    assert all(re.search(r"accuracy 0\.\d{3} \(0\.\d{3} to \d\.\d{3}\), ", row) for row in rows)
    assert last.endswith(" reaches the score at 4")


@pytest.mark.usefixtures("_quick_export")
def test_an_example_exports_and_predicts(
    session: dict[str, Any], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted(session["photos"].glob("*/*.png"))[::30]
    export_and_predict.main(run, tmp_path / "model", [*images, tmp_path / "none.png"])
    said = capsys.readouterr()
    *rows, missing = said.out.splitlines()[1:]
    assert "exporting from" in said.err
    right = [
        row.startswith(f"{path}: {path.parent.name} (")
        for row, path in zip(rows, images, strict=True)
    ]
    assert sum(right) > len(right) / 2
    assert missing.startswith(f"{tmp_path / 'none.png'}: no such file")


def test_every_example_is_run_by_these_tests() -> None:
    files = {path.stem for path in (REPOSITORY / "examples").glob("*.py")} - {"__init__"}
    assert files == {module.__name__.partition(".")[2] for module in SEEN}


def test_every_function_has_a_snippet() -> None:
    functions = {"orchestrator", "launch", "resume", "load_run", "export"}
    assert {name for name, code in SNIPPETS.items() if code} == functions | {"docs/python-api.md"}


@pytest.mark.usefixtures("_quick_export")
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run_as_they_stand(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shutil.copytree(run, tmp_path / "runs" / RUN_NAME)
    (tmp_path / "search_spaces").mkdir()
    shutil.copy(LOWDATA, tmp_path / "search_spaces")
    monkeypatch.chdir(tmp_path)

    def launched(*_: object, **__: object) -> SweepResult:
        """End as a sweep does that is there already."""
        found = Run(Path("runs") / RUN_NAME)
        view = ProgressLines(load_space(found.space))
        return resume_sweep(found, address=None, view=view, accept_changes=False)

    monkeypatch.setattr(sweeps, "launch_sweep", launched)
    known = {"orchestrator": orchestrator, "space": "search_spaces/lowdata.yaml"}
    exec(compile(SNIPPETS[name], name, "exec"), known)
