"""What a sweep is doing, at moments that a death can leave behind."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from orchestrator.reading.status import inspect
from orchestrator.recording.state import SweepState, begun_studies, state_of
from orchestrator.recording.sweep_directory import Run
from orchestrator.running import launch
from orchestrator.running.launch import begin
from tests.builders.prepared import prepare

LOWDATA = Path(__file__).parents[3] / "search_spaces" / "lowdata.yaml"


def test_a_death_amid_the_making_of_a_study_leaves_a_sweep_that_can_be_resumed(
    tmp_path: Path,
) -> None:
    run, journal = begin(tmp_path, prepare(LOWDATA))
    with closing(journal):
        storage = optuna.storages.JournalStorage(journal)
        optuna.create_study(study_name="b2", storage=storage, direction="maximize")
        assert state_of(run) is SweepState.RUNNING
    assert begun_studies(run) == {}
    assert state_of(run) is SweepState.UNFINISHED
    assert inspect(run).state is SweepState.UNFINISHED


@pytest.mark.parametrize(
    "amid", ["create_run", "write_text", "SweepJournal", "provenance", "write_manifest"]
)
def test_a_ctrl_c_amid_the_making_of_a_directory_waits_until_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amid: str
) -> None:
    step = getattr(launch, amid)

    def interrupted(*args: object, **kwargs: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return step(*args, **kwargs)

    monkeypatch.setattr(launch, amid, interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.begin(tmp_path, prepare(LOWDATA))
    (path,) = tmp_path.iterdir()
    run = Run(path)
    assert run.read_manifest()["sweep_id"] == path.name
    assert state_of(run) is SweepState.UNFINISHED  # the journal's lock is free
