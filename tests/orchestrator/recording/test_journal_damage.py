"""Journals whose end a death, a power cut or something worse has spoilt."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage

from orchestrator.errors import StorageError
from orchestrator.recording.journal import SweepJournal, read_storage
from orchestrator.recording.journal_format import is_record, sound_lines
from tests.orchestrator.recording.test_journal import _write_two_trials
from trainable.atomic_files import observing_failpoints

REPORT = {"op_code": 7, "worker_id": "w", "trial_id": 1, "step": 0, "intermediate_value": 0.5}
GARBAGE = {
    "half a record": b'{"op_code":8,"worker_id":"w","tri',
    "half a record with a line end": b'{"op_code":8,"worker_id":"w","tri\n',
    "zeros": b"\0" * 4096,
    "zeros with a line end": b"\0" * 512 + b"\n",
    "an empty line": b"\n",
    "no UTF-8": b'{"op_code":8,"worker_id":"\xff\xfe"}\n',
    "UTF-16": json.dumps(REPORT).encode("utf-16") + b"\n",
    "a number": b"5\n",
    "a list": b"[]\n",
    "an object of something else": b'{"a": 1}\n',
    "a kind that there is not": b'{"op_code":77,"worker_id":"w"}\n',
    "a kind that is no number": b'{"op_code":"8","worker_id":"w"}\n',
    "a field missing": b'{"op_code":8,"worker_id":"w","trial_id":1}\n',
    "a writer missing": b'{"op_code":4,"study_id":0}\n',
    "a state that there is not": (
        b'{"op_code":6,"worker_id":"w","trial_id":1,"state":99,"values":null}\n'
    ),
    "a distribution that there is not": (
        b'{"op_code":5,"worker_id":"w","trial_id":1,"param_name":"lr","param_value_internal":1,'
        b'"distribution":"{}"}\n'
    ),
    "an attribute too many": (
        b'{"op_code":8,"worker_id":"w","trial_id":1,"user_attr":{"a":1,"b":2}}\n'
    ),
    "deep nesting": b"[" * 100_000 + b"\n",
    "several of these": b"\0\0\n5\n\xff\n" + b'{"op_code"',
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a journal with two trials, the second one still running."""
    path = tmp_path / "journal.log"
    _write_two_trials(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return path


def _seen(storage: JournalStorage) -> list[tuple[str, float | None]]:
    study = optuna.load_study(study_name="b5", storage=storage)
    return [(trial.state.name, trial.value) for trial in study.trials]


TWO = [("COMPLETE", 0.25), ("RUNNING", None)]


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_at_the_end_is_cut_off_and_told_and_the_sweep_goes_on(
    path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    sound = path.read_bytes()
    path.write_bytes(sound + garbage)
    with closing(SweepJournal(path)) as journal:
        assert journal.mended_bytes == len(garbage)
        assert path.read_bytes() == sound
        (told,) = [one.getMessage() for one in caplog.records]
        assert told.startswith(f"{path}: its last {len(garbage)} bytes are no whole record")
        optuna.load_study(study_name="b5", storage=JournalStorage(journal)).tell(1, 0.5)
    with closing(SweepJournal(path)) as journal:
        assert journal.mended_bytes == 0
    assert len(caplog.records) == 1
    assert _seen(read_storage(path)) == [("COMPLETE", 0.25), ("COMPLETE", 0.5)]


@pytest.mark.parametrize("name", ["journal.log: to be cut", "journal.log: cut"])
def test_a_journal_whose_mending_was_cut_short_is_mended_by_the_next(path: Path, name: str) -> None:
    sound = path.read_bytes()
    path.write_bytes(sound + b"\0garbage\n")

    def stop(step: str) -> None:
        if step == name:
            raise KeyboardInterrupt(step)

    with pytest.raises(KeyboardInterrupt, match="cut"), observing_failpoints(stop):
        SweepJournal(path)
    SweepJournal(path).close()
    assert path.read_bytes() == sound


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_readers_read_what_is_good_and_write_nothing(path: Path, garbage: bytes) -> None:
    path.write_bytes(path.read_bytes() + garbage)
    before = path.read_bytes()
    path.chmod(0o444)
    assert _seen(read_storage(path)) == TWO
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["journal.log"]


@pytest.mark.parametrize("garbage", [g for g in GARBAGE.values() if g.endswith(b"\n")])
def test_garbage_amid_good_records_is_named_and_nothing_is_changed(
    path: Path, garbage: bytes
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], garbage, *lines[-2:]]))
    before = path.read_bytes()
    told = rf"line {len(lines) - 1} is damaged, and 2 good records follow(?s:.*)sft-sweep resume"
    with pytest.raises(StorageError, match=told):
        SweepJournal(path)
    with pytest.raises(StorageError, match=told):
        read_storage(path)
    assert path.read_bytes() == before


def test_the_lock_is_free_again_after_a_journal_was_refused(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(b"garbage\n" + whole)
    with pytest.raises(StorageError, match="line 1 is damaged"):
        SweepJournal(path)
    path.write_bytes(whole)
    SweepJournal(path).close()


def test_what_the_message_advises_makes_the_journal_sound(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"garbage\n", *lines[6:]]))
    with pytest.raises(StorageError, match="head -n 6 ") as caught:
        SweepJournal(path)
    assert "-n 6" in str(caught.value)
    path.write_bytes(b"".join(lines[:6]))
    assert sound_lines(path) == [line.rstrip(b"\n") for line in lines[:6]]


def test_a_journal_cut_anywhere_is_read_and_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    _write_two_trials(path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        records = sum(end <= size for end in ends)
        assert len(sound_lines(path)) == records
        if size % 29 and size - 1 not in ends:  # the rest is slower
            continue
        with closing(SweepJournal(path)) as journal:
            left = path.read_bytes()
            assert journal.mended_bytes == size - len(left)
            assert whole.startswith(left)
            studies = JournalStorage(journal).get_all_studies()
        assert len(studies) == min(1, records)


@pytest.mark.parametrize(
    "impossible",
    [
        {"op_code": 8, "worker_id": "w", "trial_id": 999, "user_attr": {"plan": {}}},
        {"op_code": 8, "worker_id": "w", "trial_id": 0, "user_attr": {"plan": {}}},
        {"op_code": 2, "worker_id": "w", "study_id": 9, "user_attr": {"about": {}}},
        {"op_code": 4, "worker_id": "w", "study_id": 9, "datetime_start": None},
        {"op_code": 0, "worker_id": "w", "study_name": "b5", "directions": [2]},
    ],
)
def test_a_record_of_what_there_is_not_changes_nothing(
    path: Path, impossible: dict[str, Any]
) -> None:
    path.write_bytes(path.read_bytes() + json.dumps(impossible).encode() + b"\n")
    assert _seen(read_storage(path)) == TWO
    with closing(SweepJournal(path)) as journal:
        storage = JournalStorage(journal)
        assert _seen(storage) == TWO
        optuna.load_study(study_name="b5", storage=storage).tell(1, 0.5)
    assert _seen(read_storage(path)) == [("COMPLETE", 0.25), ("COMPLETE", 0.5)]


def test_all_that_optuna_writes_is_a_record(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    assert len({json.loads(line)["op_code"] for line in lines}) >= 6
    assert all(is_record(json.loads(line)) for line in lines)
    assert not is_record({**REPORT, "step": None})
    assert is_record(REPORT)


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.log: cannot be read: No such file"):
        sound_lines(tmp_path / "gone.log")
