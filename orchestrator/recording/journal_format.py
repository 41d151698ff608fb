"""The records of a journal, and detection of garbage and damage.

A crash or a power cut leaves garbage at the end of the file: half a line, zeros, a block of another
file. Garbage between good records has another cause, and removing it would shift the ids that later
records refer to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.recording.optuna_internals import JournalOperation, JournalStorageReplayResult

Record = dict[str, Any]

_ODD_CONTENTS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Errors raised by records that have a valid form but unexpected contents."""

_OF_STUDY, _OF_TRIAL = {"study_id": (int,)}, {"trial_id": (int,)}
_FIELDS: Mapping[int, Mapping[str, tuple[type, ...]]] = {
    JournalOperation.CREATE_STUDY: {"study_name": (str,), "directions": (list,)},
    JournalOperation.DELETE_STUDY: _OF_STUDY,
    JournalOperation.SET_STUDY_USER_ATTR: {**_OF_STUDY, "user_attr": (dict,)},
    JournalOperation.SET_STUDY_SYSTEM_ATTR: {**_OF_STUDY, "system_attr": (dict,)},
    JournalOperation.CREATE_TRIAL: _OF_STUDY,
    JournalOperation.SET_TRIAL_PARAM: {
        **_OF_TRIAL,
        "param_name": (str,),
        "param_value_internal": (int, float),
        "distribution": (str,),
    },
    JournalOperation.SET_TRIAL_STATE_VALUES: {
        **_OF_TRIAL,
        "state": (int,),
        "values": (list, type(None)),
    },
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE: {
        **_OF_TRIAL,
        "step": (int,),
        "intermediate_value": (int, float),
    },
    JournalOperation.SET_TRIAL_USER_ATTR: {**_OF_TRIAL, "user_attr": (dict,)},
    JournalOperation.SET_TRIAL_SYSTEM_ATTR: {**_OF_TRIAL, "system_attr": (dict,)},
}
"""Fields of a record of each kind, beside `op_code` and `worker_id`."""


def is_record(value: object) -> bool:
    """Return whether a JSON value has the form of one of Optuna's records."""
    if not isinstance(value, dict) or not isinstance(value.get("worker_id"), str):
        return False
    code = value.get("op_code")
    fields = _FIELDS.get(code) if isinstance(code, int) else None
    if fields is None:
        return False
    return all(isinstance(value.get(name, _ABSENT), kinds) for name, kinds in fields.items())


def sound_lines(path: Path) -> list[bytes]:
    """Return the leading lines of a journal that Optuna can replay; the rest is garbage.

    Raises:
        StorageError: the file cannot be read, or there are good records after the garbage.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # a line without an end is incomplete
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    replay = JournalStorageReplayResult("")
    for index, line in enumerate(lines):
        if not _replays(replay, line):
            later = sum(_parse(one) is not None for one in lines[index + 1 :])
            if later:
                raise _damage(path, index + 1, later)
            return lines[:index]
    return lines


@contextlib.contextmanager
def reading_contents(path: Path) -> Iterator[None]:
    """Turn errors raised by records with unexpected contents into a `StorageError`.

    Raises:
        StorageError: the records have a valid form, but contents that this version does not write.
    """
    try:
        yield
    except _ODD_CONTENTS as error:
        raise StorageError(
            f"{path}: its records have the form of ours and say something else "
            f"({type(error).__name__}: {error}). Was it changed by hand, or written by another "
            "version of sft-sweep? Put a copy of the file in its place, or start a new sweep with: "
            "sft-sweep launch"
        ) from error


class _Absent:
    """Marks a missing field, as opposed to null."""


_ABSENT = _Absent()


def _parse(line: bytes) -> Record | None:
    """Return the record in a line, or None if it is not a record."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):  # not UTF-8, or not JSON
        return None
    return value if is_record(value) else None


def _replays(replay: JournalStorageReplayResult, line: bytes) -> bool:
    """Apply a line to the records before it; return whether that succeeded."""
    record = _parse(line)
    if record is None:
        return False
    try:
        replay.apply_logs([record])
    except Exception:  # wrong values raise arbitrary errors
        return False
    return True


def _damage(path: Path, number: int, later: int) -> StorageError:
    return StorageError(
        f"{path}: line {number} is damaged, and {later} good records follow it: no death does "
        "this, and nothing is changed here. Put a copy of the file in its place, or keep what lies "
        f"before it (what follows is done again) with:\n  cp {path} {path}.damaged && "
        f"head -n {number - 1} {path}.damaged > {path} && sft-sweep resume {path.parent}"
    )
