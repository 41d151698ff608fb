"""Whatever becomes of the bytes of a journal or a table: what is good is read, the rest is told."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage

from orchestrator.errors import StorageError
from orchestrator.reading.loading import load_run
from orchestrator.reading.status import inspect
from orchestrator.recording.journal import SweepJournal, read_storage
from orchestrator.recording.journal_format import is_record
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import SCHEMAS
from tests.orchestrator.recording.test_journal import _write_two_trials
from tests.orchestrator.recording.test_projection import SPACE, Swept, swept

__all__ = ["swept"]  # the fixture

LAWS = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 12), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["op_code", "worker_id", "study_id", "trial_id", "user_attr", "state", "values"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=8,
)
LINES = st.one_of(
    st.binary(max_size=40),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.integers(1, 4096).map(bytes),
)
DAMAGE = st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64), st.booleans())
"""Where, with what, and whether what was there makes room or is overwritten."""


def _damaged(content: bytes, damage: tuple[float, bytes, bool]) -> bytes:
    share, bytes_, inserted = damage
    at = int(share * len(content))
    return content[:at] + bytes_ + content[at + (0 if inserted else len(bytes_)) :]


def _is_good(line: bytes) -> bool:
    try:
        return is_record(json.loads(line.decode()))
    except ValueError:
        return False


@contextmanager
def _journal(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "journal.log"
        path.write_bytes(content)
        yield path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal with two finished trials."""
    path = tmp_path_factory.mktemp("whole") / "journal.log"
    _write_two_trials(path)
    return path.read_bytes()


def _values(storage: JournalStorage) -> list[float | None]:
    return [
        trial.value for trial in optuna.load_study(study_name="b5", storage=storage).get_trials()
    ]


@LAWS
@given(garbage=st.lists(LINES, max_size=4), ended=st.booleans())
def test_garbage_at_the_end_of_a_journal_is_passed_over_and_cut(
    whole: bytes, garbage: list[bytes], ended: bool
) -> None:
    tail = b"\n".join(garbage) + b"\n" * ended
    if any(map(_is_good, tail.split(b"\n"))):
        return
    with _journal(whole + tail) as path:
        assert _values(read_storage(path)) == [0.25, 0.5]
        assert path.read_bytes() == whole + tail
        with closing(SweepJournal(path)) as journal:
            assert journal.mended_bytes == len(tail)
            assert _values(JournalStorage(journal)) == [0.25, 0.5]
        assert path.read_bytes() == whole


@LAWS
@given(damage=DAMAGE)
def test_a_journal_damaged_anywhere_is_read_in_part_or_told(
    whole: bytes, damage: tuple[float, bytes, bool]
) -> None:
    content = _damaged(whole, damage)
    with _journal(content) as path:
        try:
            read = len(read_storage(path).get_all_studies())
        except StorageError:
            with pytest.raises(StorageError, match=r"line \d+ is damaged, and \d+ good records"):
                SweepJournal(path)
            assert path.read_bytes() == content
            return
        with closing(SweepJournal(path)) as journal:
            assert content.startswith(path.read_bytes())
            assert len(JournalStorage(journal).get_all_studies()) == read


@LAWS
@given(
    name=st.sampled_from(sorted(SCHEMAS)),
    damage=st.one_of(st.none(), st.binary(max_size=200), st.floats(0, 1), DAMAGE),
)
def test_whatever_becomes_of_a_table_the_same_rows_are_read(
    swept: Swept, name: str, damage: Any
) -> None:
    content = (swept.path / f"{name}.parquet").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pets-1"
        shutil.copytree(swept.path, path)
        (path / "manifest.json").write_text(json.dumps({"sweep_id": "pets-1"}))
        table = path / f"{name}.parquet"
        match damage:
            case None:
                table.unlink()
            case bytes():
                table.write_bytes(damage)
            case float():
                table.write_bytes(content[: int(damage * len(content))])
            case _:
                table.write_bytes(_damaged(content, damage))
        assert load_run(path).table(name).to_pylist() == swept.rows[name]
        assert load_run(path).table(name).to_pylist() == swept.rows[name]
        assert not [file for file in path.iterdir() if file.name.startswith(".")]


PLACES = st.tuples(st.floats(0, 1), st.lists(st.floats(0, 1), max_size=4), VALUES)
"""Which record's attributes, the way down into them, and what is put there."""


def _with_another_content(content: bytes, place: tuple[float, list[float], Any]) -> bytes:
    """A journal one of whose records keeps its form and says something else."""
    share, way, value = place
    records = [json.loads(line) for line in content.splitlines()]
    holders = [record for record in records if "user_attr" in record]
    inner = holders[int(share * (len(holders) - 1))]["user_attr"]
    keys: list[Any] = list(inner)
    for step in way:
        key = keys[int(step * (len(keys) - 1))]
        if not isinstance(inner[key], dict | list) or not inner[key]:
            break
        inner = inner[key]
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
    inner[keys[0]] = value
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@LAWS
@given(place=PLACES)
def test_records_that_say_something_else_lead_to_an_answer_or_a_message(
    swept: Swept, place: tuple[float, list[float], Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "pets-1")
        shutil.copytree(swept.path, run.path)
        run.manifest.write_text(json.dumps({"sweep_id": "pets-1"}))
        run.space.write_text(yaml.safe_dump(SPACE.to_json()))
        content = _with_another_content(run.journal.read_bytes(), place)
        run.journal.write_bytes(content)
        (run.path / "trials.parquet").unlink()
        for look in (lambda: inspect(run), lambda: load_run(run.path).trials):
            with contextlib.suppress(StorageError):
                look()
        assert run.journal.read_bytes() == content
