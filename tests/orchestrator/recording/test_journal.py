import fcntl
import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.journal import SweepJournal, is_locked, kept_idle, read_storage
from tests.orchestrator.recording import test_progress as sweeps

HOLDER = """
import sys, time
from pathlib import Path
from orchestrator.recording.journal import SweepJournal
journal = SweepJournal(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def _study(path: Path, journal: JournalFileBackend | None = None) -> optuna.Study:
    backend = JournalFileBackend(str(path)) if journal is None else journal
    return optuna.load_study(study_name="b5", storage=JournalStorage(backend))


def _write_two_trials(path: Path) -> None:
    journal = SweepJournal(path)
    study = optuna.create_study(study_name="b5", storage=JournalStorage(journal))
    for value in (0.25, 0.5):
        trial = study.ask()
        trial.suggest_float("lr", 0.1, 1.0)
        trial.set_user_attr("report/0", {"val_objective": value})
        trial.report(value, step=0)
        study.tell(trial, value)
    journal.close()


def test_optuna_reads_the_journal_with_its_own_backend(path: Path) -> None:
    _write_two_trials(path)
    study = _study(path)
    assert [trial.value for trial in study.trials] == [0.25, 0.5]
    assert study.trials[1].user_attrs == {"report/0": {"val_objective": 0.5}}
    assert study.trials[1].intermediate_values == {0: 0.5}
    with closing(SweepJournal(path)) as journal:
        assert _study(path, journal).trials == study.trials


def test_a_second_writer_in_the_same_process_is_refused(path: Path) -> None:
    journal = SweepJournal(path)
    with pytest.raises(UsageError, match=r"another process is running.*sft-sweep status"):
        SweepJournal(path)
    journal.close()
    SweepJournal(path).close()


def test_the_lock_ends_with_the_process_that_holds_it(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        with pytest.raises(UsageError, match="another process is running this sweep"):
            SweepJournal(path)
    finally:
        holder.kill()
        holder.communicate()
    assert not is_locked(path)
    SweepJournal(path).close()


def test_looking_whether_it_is_locked_does_not_lock_it(path: Path) -> None:
    SweepJournal(path).close()
    assert not is_locked(path)
    SweepJournal(path).close()


def test_nobody_begins_to_run_a_sweep_that_is_kept_idle(path: Path) -> None:
    SweepJournal(path).close()
    with kept_idle(path) as idle:
        assert idle
        with pytest.raises(UsageError, match="another process is running this sweep"):
            SweepJournal(path)
    with closing(SweepJournal(path)), kept_idle(path) as idle:
        assert not idle


def test_a_lock_that_a_reader_holds_for_a_moment_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SweepJournal(path).close()
    reader = path.open("rb")
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr("orchestrator.recording.journal.time.sleep", lambda _: reader.close())
    SweepJournal(path).close()


def test_optunas_own_lock_that_a_death_left_stalls_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna would wait for it for half a minute."""
    for lock in (JournalFileSymlinkLock, JournalFileOpenLock):
        monkeypatch.setattr(lock, "acquire", lambda _: pytest.fail("Optuna's lock was asked for"))
    stale = path.with_name("journal.log.lock")
    stale.symlink_to(path)
    _write_two_trials(path)
    assert [trial.value for trial in _study(path).trials] == [0.25, 0.5]
    study = optuna.load_study(study_name="b5", storage=read_storage(path))
    assert [trial.value for trial in study.trials] == [0.25, 0.5]
    assert stale.is_symlink()


def test_a_torn_last_record_is_dropped_wherever_it_was_torn(path: Path) -> None:
    _write_two_trials(path)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for kept in range(last):
        path.write_bytes(whole[: len(whole) - last + kept])
        journal = SweepJournal(path)
        assert journal.mended_bytes == kept
        study = _study(path, journal)
        first, second = study.get_trials()
        assert (first.state, first.value) == (TrialState.COMPLETE, 0.25)
        assert second.state is TrialState.RUNNING
        study.tell(1, 0.5)
        journal.close()
        assert [trial.value for trial in _study(path).trials] == [0.25, 0.5]


@pytest.mark.parametrize("enqueued", [False, True])
def test_an_ask_that_was_cut_short_is_dropped(path: Path, enqueued: bool) -> None:
    _write_two_trials(path)
    whole = path.read_bytes()
    with closing(SweepJournal(path)) as journal:
        study = _study(path, journal)
        if enqueued:
            study.enqueue_trial({"lr": 0.5})
        study.ask().suggest_float("lr", 0.1, 1.0)
    with closing(SweepJournal(path)) as journal:
        assert journal.mended_bytes > 0
        assert path.read_bytes() == whole
        assert _study(path, journal).ask().number == 2


def test_a_trial_with_its_plan_is_kept(path: Path) -> None:
    _write_two_trials(path)
    with closing(SweepJournal(path)) as journal:
        trial = _study(path, journal).ask()
        trial.set_user_attr("plan", {})
    with closing(SweepJournal(path)) as journal:
        assert journal.mended_bytes == 0
        assert _study(path, journal).trials[2].state is TrialState.RUNNING


def test_a_whole_journal_is_not_mended(path: Path) -> None:
    _write_two_trials(path)
    before = path.read_bytes()
    with closing(SweepJournal(path)) as journal:
        assert journal.mended_bytes == 0
    assert path.read_bytes() == before


def _limit_file_size(num_bytes: int) -> tuple[int, int]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    return before


@pytest.mark.parametrize("room_bytes", [0, 1, 40])
def test_a_full_disk_leaves_no_half_record_and_names_the_file(path: Path, room_bytes: int) -> None:
    _write_two_trials(path)
    whole = path.read_bytes()
    journal = SweepJournal(path)
    study = _study(path, journal)
    before = _limit_file_size(len(whole) + room_bytes)
    try:
        with pytest.raises(
            StorageError, match=r"journal\.log: cannot be written.*Make room.*resume"
        ):
            study.set_user_attr("final/b5-0000/0", "x" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    study.set_user_attr("final/b5-0000/0", "again")
    journal.close()
    assert _study(path).user_attrs == {"final/b5-0000/0": "again"}


def test_what_settles_is_synced_and_what_is_in_between_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = SweepJournal(path)
    study = optuna.create_study(study_name="b5", storage=JournalStorage(journal))
    trial = study.ask()
    trial.set_user_attr("plan", {})
    trial.report(0.5, step=0)
    assert synced == []
    study.tell(trial, 0.5)
    assert len(synced) == 1
    study.set_user_attr("about", {})
    assert len(synced) == 2
    journal.close()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone/journal\.log: cannot be opened for writing: No"):
        SweepJournal(tmp_path / "gone" / "journal.log")


def test_readers_need_a_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no sweep here \(journal\.log is missing\)"):
        read_storage(tmp_path / "journal.log")


def test_readers_never_write(path: Path) -> None:
    _write_two_trials(path)
    study = optuna.load_study(study_name="b5", storage=read_storage(path))
    with pytest.raises(AssertionError, match="must not write"):
        study.set_user_attr("about", 1)


def test_readers_see_what_is_whole_while_a_record_is_being_written(path: Path) -> None:
    _write_two_trials(path)
    with path.open("ab") as file:
        file.write(json.dumps({"op_code": 2, "study_id": 0}).encode()[:-5])
    study = optuna.load_study(study_name="b5", storage=read_storage(path))
    assert [trial.value for trial in study.trials] == [0.25, 0.5]


def test_optuna_opens_the_journal_of_a_running_sweep_as_its_dashboard_does(tmp_path: Path) -> None:
    space = sweeps._space(baselines=["pixels"])
    with sweeps._broker(tmp_path, space, slots=2) as broker:
        for value in (0.5, 0.75, 0.25):
            sweeps._complete(broker, sweeps._take(broker), value)
        sweeps._take(broker)
        before = (tmp_path / "journal.log").read_bytes()

        storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
        summaries = optuna.get_all_study_summaries(storage)
        assert {summary.study_name: summary.n_trials for summary in summaries} == {"b2": 3, "b3": 0}
        study = optuna.load_study(study_name="b2", storage=storage)
        states = [trial.state for trial in study.trials]
        assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
        assert (study.direction, study.best_value) == (StudyDirection.MAXIMIZE, 0.75)
        best = study.best_trial
        assert set(best.params) == {"backbone"}
        assert best.intermediate_values == {0: 0.75, 1: 0.75, 2: 0.75}
        assert best.user_attrs["plan"]["spec"]["label_budget"] == 2
        assert set(study.user_attrs) == {"about", "baseline/pixels"}
        assert (tmp_path / "journal.log").read_bytes() == before
