"""The journal file of a sweep: Optuna's, with one writer."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import TrialState

from orchestrator.errors import StorageError, UsageError


class SweepJournal(JournalFileBackend):
    """Optuna's journal file, held open and locked by the one process that runs the sweep.

    The lock is the kernel's (flock), so that it ends with the process, however that ends. Every
    record is handed to the kernel before the call returns, which outlives the death of the
    process; a record torn by that death, and an ask that it cut short, are dropped when the file is
    next opened (`mended_bytes` says how much). The file is synced to disk whenever a trial settles
    or a study's attribute is set, which outlives the death of the machine. Optuna and its dashboard
    read the file as usual.

    Args:
        path: of the file; created where missing.

    Raises:
        UsageError: another process runs this sweep.
        StorageError: the file cannot be opened.
    """

    # Numbers of optuna.storages.journal:
    _SYNCED = frozenset({2, 6})  # SET_STUDY_USER_ATTR, SET_TRIAL_STATE_VALUES
    _ASKING = frozenset({4, 5, 6})  # CREATE_TRIAL, SET_TRIAL_PARAM, SET_TRIAL_STATE_VALUES

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened for writing: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(
                f"{path.parent}: another process is running this sweep; wait for it, or look with: "
                f"sft-sweep status {path.parent}"
            ) from None
        self._path = path
        self.mended_bytes = self._drop_unfinished_tail()
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, one JSON line each."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        size = self._path.stat().st_size
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if any(log["op_code"] in self._SYNCED for log in logs):
                os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)  # half a record would spoil the next one
            raise StorageError(
                f"{self._path}: cannot be written: {error.strerror}. Make room, then: "
                f"sft-sweep resume {self._path.parent}"
            ) from error

    def _drop_unfinished_tail(self) -> int:
        """Cut off what a death left half done: a record without its line end, and an ask.

        Between the first record of an ask and the trial's plan there is no other record. Without
        them the ask is made again, from the beginning of its random draws.
        """
        data = self._path.read_bytes()
        *lines, torn = data.split(b"\n")
        dropped = len(torn)
        for line in reversed(lines):
            record = json.loads(line)
            if record["op_code"] not in self._ASKING or _is_finished(record):
                break
            dropped += len(line) + 1
        if dropped:
            os.ftruncate(self._file.fileno(), len(data) - dropped)
        return dropped

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()


def _is_finished(record: dict[str, Any]) -> bool:
    """Whether a record ends a trial."""
    return "state" in record and TrialState(record["state"]).is_finished()


def is_locked(path: Path) -> bool:
    """Whether a process holds this journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def read_only(path: Path) -> BaseJournalBackend:
    """The journal for readers; takes no lock and never writes.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent}: no sweep here (journal.log is missing)")
    return _ReadOnly(str(path))


class _ReadOnly(JournalFileBackend):
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError(f"a reader of the journal must not write to it: {logs}")
