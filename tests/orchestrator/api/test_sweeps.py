"""What `orchestrator.launch` and `resume` take, give back and say; no cluster is started."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.api import sweeps
from orchestrator.api.sweeps import SweepResult
from orchestrator.cli.main import run as command
from orchestrator.planning.preparation import read_space
from orchestrator.recording.savings import Savings
from orchestrator.signals import stopping_on_signals
from tests.builders.programs import printed_by
from tests.builders.written_sweeps import loaded

REPOSITORY = Path(__file__).parents[3]
LOWDATA = REPOSITORY / "search_spaces" / "lowdata.yaml"
SPACE: dict[str, Any] = {
    "dataset": {"source": "digits"},
    "search": {"backbone": "tiny_strokes", "label_budget": 2},
}


def result_of(directory: Path, **changes: Any) -> SweepResult:
    values: dict[str, Any] = {
        "run": loaded(directory),
        "answer": ("Use this.", "Next: that."),
        "failures": 0,
        "signal": None,
        "duration_s": 1.0,
        "report": None,
        "report_problem": None,
        "savings": Savings(asked_flops=0.0, computed_flops=0.0, hits=0, misses=0, warnings=()),
    }
    return SweepResult(**values | changes)


def ending_with(monkeypatch: pytest.MonkeyPatch, result: SweepResult) -> list[dict[str, Any]]:
    """Let a launch end at once with this result; what it was asked, launch by launch."""
    asked: list[dict[str, Any]] = []

    def launched(space: Any, **options: Any) -> SweepResult:
        asked.append({"space": space, **options})
        return result

    monkeypatch.setattr(sweeps, "launch_sweep", launched)
    return asked


def test_importing_the_package_takes_nothing_heavy_and_still_shows_its_names() -> None:
    code = (
        "import sys, orchestrator; print(set(orchestrator.__all__) <= set(dir(orchestrator)), "
        "sorted({'torch', 'ray', 'optuna', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert printed_by(code, timeout_s=60) == "True []"


def test_every_name_of_the_package_is_there_and_documented() -> None:
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'lunch'"):
        _ = orchestrator.lunch


def test_a_file_and_a_mapping_are_launched_with_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ending_with(monkeypatch, result_of(tmp_path / "run"))
    orchestrator.launch(str(LOWDATA), overrides={"trials": 3, "search.lr": 0.01})
    orchestrator.launch(SPACE, out=tmp_path, address="auto")
    of_file, of_mapping = asked
    assert (of_file["space"].name, of_file["space"].trials) == ("lowdata", 3)
    assert of_file["space"].axes["lr"].to_json() == 0.01
    assert (of_file["path"], of_file["root"], of_file["address"]) == (LOWDATA, Path("runs"), None)
    assert of_mapping["space"].name == "sweep"
    assert (of_mapping["root"], of_mapping["address"]) == (tmp_path, "auto")


def test_a_result_shows_its_answer_and_has_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending_with(monkeypatch, result_of(tmp_path / "run", failures=2, report_problem="no room"))
    result = orchestrator.launch(SPACE)
    assert str(result) == "Use this.\nNext: that."
    assert (result.failures, result.interrupted, result.warnings) == (2, False, ("no room",))
    assert result.run.to_pandas("leaderboard")["trial_id"][0] == "b2-0001"
    assert capsys.readouterr().err == "no room\n"


def test_an_interrupted_launch_returns_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    ending_with(monkeypatch, result_of(run, signal=int(signal.SIGINT)))
    assert orchestrator.launch(SPACE).interrupted
    told = capsys.readouterr()
    assert f"Go on with: orchestrator.resume({str(run)!r})" in told.err
    assert f"sft-sweep resume {run}" in told.err
    assert told.out == ""


def test_a_request_to_end_is_passed_on_once_the_sweep_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending_with(monkeypatch, result_of(tmp_path / "run", signal=int(signal.SIGTERM)))
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        assert orchestrator.launch(SPACE).signal == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_launch_that_is_ended_at_once_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted_twice(*_: object, **__: object) -> SweepResult:
        with stopping_on_signals(lambda: None):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal ended nothing")

    monkeypatch.setattr(sweeps, "launch_sweep", interrupted_twice)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.launch(SPACE, out=tmp_path)
    told = capsys.readouterr().err
    assert f"orchestrator.resume(RUN), where RUN is the newest directory in {tmp_path}" in told
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("key", ["search.freez_depth", "search.lr.lo", "nonsense"])
def test_a_bad_file_is_refused_with_the_message_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert command(["launch", str(LOWDATA), "--out", str(tmp_path), "--set", f"{key}=0.5"]) == 2
    said = capsys.readouterr().err
    with pytest.raises(orchestrator.SpaceError, match=r"lowdata\.yaml: \d problem") as caught:
        orchestrator.launch(LOWDATA, out=tmp_path, overrides={key: 0.5})
    assert f"{caught.value}\n" == said
    assert list(tmp_path.iterdir()) == []


def test_overrides_as_the_command_takes_them_are_refused_with_what_is_allowed() -> None:
    given: Any = ["trials=8"]
    with pytest.raises(orchestrator.UsageError, match=r"overrides: got .*allowed: a mapping"):
        orchestrator.launch(SPACE, overrides=given)


def test_a_directory_without_a_sweep_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(orchestrator.UsageError, match="no sweep here"):
        orchestrator.resume(tmp_path)


def test_the_first_line_says_how_to_stop_and_where_that_cannot_be() -> None:
    space = read_space(SPACE)
    found = [sweeps._beginning(space)]
    thread = threading.Thread(target=lambda: found.append(sweeps._beginning(space)))
    thread.start()
    thread.join()
    assert found[0].startswith("sweep: starting; Ctrl-C, or the stop button of a notebook, ends it")
    assert found[1].startswith("sweep: starting; it is not in the main thread")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "al"}, "labels: got 'al'; allowed: all, budget, everything; did you mean all"),
        ({"labels": None}, "labels: got nothing; allowed: all"),
        ({"trial": "b9-0000"}, "--trial b9-0000: no such trial"),
        ({"budget": 7}, "--budget 7: not in this sweep; allowed: 2, 10"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(orchestrator.UsageError, match=message):
        orchestrator.export(loaded(tmp_path / "run"), tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()
