"""The journal file of a sweep: Optuna's format, with one writer."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.journal_format import is_record, sound_lines
from trainable.atomic_files import append, failpoint

_log = logging.getLogger("sft_sweep")

_PATIENCE_S, _TRIES = 0.5, 10
"""Seconds to wait for the lock, and number of tries in that time."""


class SweepJournal(JournalFileBackend):
    """Optuna's journal file, held open and locked by the process that runs the sweep.

    The lock is the kernel's (flock), which is released when the process ends for any reason. Every
    record is handed to the kernel before the call returns, so it survives a crash of the process.
    Incomplete records and other garbage at the end of the file are dropped when it is next opened
    (`mended_bytes` counts them). The file is synced to disk whenever a trial settles or a study's
    attribute is set, so these records survive a crash of the machine. Optuna and its dashboard can
    read the file. Optuna's own lock file is not used, because it would outlive a crashed process.

    Args:
        path: path of the file; created if missing.

    Raises:
        UsageError: another process runs this sweep.
        StorageError: the file cannot be opened, or is damaged amid good records.
    """

    # Numbers of optuna.storages.journal:
    _SYNCED = frozenset({2, 6})  # SET_STUDY_USER_ATTR, SET_TRIAL_STATE_VALUES
    _ASKING = frozenset({4, 5, 6})  # CREATE_TRIAL, SET_TRIAL_PARAM, SET_TRIAL_STATE_VALUES

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened for writing: {error.strerror}") from error
        self._path = path
        try:
            _lock(self._file, path)
            self.mended_bytes = self._drop_unfinished_tail()
        except BaseException:
            self._file.close()
            raise
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, one JSON line each."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        size = self._path.stat().st_size
        try:
            append(self._file, lines, self._path.name)
            if any(log["op_code"] in self._SYNCED for log in logs):
                os.fsync(self._file.fileno())
                failpoint(f"{self._path.name}: synced")
        except OSError as error:
            self._cut(size)  # half a record would spoil the next one
            raise StorageError(
                f"{self._path}: cannot be written: {error.strerror}. Make room, then: "
                f"sft-sweep resume {self._path.parent}"
            ) from error

    def _drop_unfinished_tail(self) -> int:
        """Cut off garbage at the end, and then the records of an unfinished ask.

        An ask's records are contiguous, from its first one to the trial's plan. Once they are
        removed, the ask is repeated from the start of its random draws.
        """
        lines = sound_lines(self._path)
        garbage = self._path.stat().st_size - _size(lines)
        if garbage:
            _log.warning(
                "%s: its last %d bytes are no whole record, as a death leaves them: cut off",
                self._path,
                garbage,
            )
        while lines:
            record = json.loads(lines[-1])
            if record["op_code"] not in self._ASKING or _is_finished(record):
                break
            lines.pop()
        dropped = self._path.stat().st_size - _size(lines)
        if dropped:
            self._cut(_size(lines))
        return dropped

    def _cut(self, size: int) -> None:
        failpoint(f"{self._path.name}: to be cut")
        os.ftruncate(self._file.fileno(), size)
        failpoint(f"{self._path.name}: cut")

    def close(self) -> None:
        """Close the file and release the lock."""
        self._file.close()


def _size(lines: list[bytes]) -> int:
    """Return the number of bytes of lines, line ends included."""
    return sum(len(line) + 1 for line in lines)


def _is_finished(record: dict[str, Any]) -> bool:
    """Return whether a record ends a trial."""
    return "state" in record and TrialState(record["state"]).is_finished()


def _lock(file: IO[bytes], path: Path) -> None:
    """Take the sweep's lock; wait for readers, which hold it only briefly.

    Raises:
        UsageError: another process keeps it.
    """
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            time.sleep(_PATIENCE_S / _TRIES)
    raise UsageError(
        f"{path.parent}: another process is running this sweep; wait for it, or look with: "
        f"sft-sweep status {path.parent}"
    )


def is_locked(path: Path) -> bool:
    """Return whether a process holds this journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextmanager
def kept_idle(path: Path) -> Iterator[bool]:
    """Hold the journal's lock if it is free; yield whether it was."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or the file system locks no file that is open for reading
            yield False
            return
        yield True


def read_storage(path: Path) -> JournalStorage:
    """Return Optuna's storage of the journal for readers; it takes no lock and never writes.

    Garbage at the end of the file, as a crash leaves it, is ignored.

    Raises:
        UsageError: there is no such file.
        StorageError: the file cannot be read, or is damaged between good records.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent}: no sweep here (journal.log is missing)")
    try:
        return JournalStorage(_Reader(path))
    except Exception:  # garbage raises anything; a check in advance would read all twice
        return JournalStorage(_Reader(path, most=len(sound_lines(path))))


class _Reader(JournalFileBackend):
    """Reads the records of a journal, all or the first `most`."""

    def __init__(self, path: Path, *, most: int | None = None) -> None:
        super().__init__(str(path))
        self._most = most

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from a number on."""
        left = None if self._most is None else max(0, self._most - log_number_from)
        for record in islice(super().read_logs(log_number_from), left):
            if not is_record(record):
                raise ValueError(f"{self._file_path}: no record: {record!r}")
            yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError(f"a reader of the journal must not write to it: {logs}")
