"""Kill -9 at every step of writing that the code names: a resume comes to the undisturbed end.

The sweep is a real one but for what its workers do, which is made up, and for Ray, which writes
nothing into its directory.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

import pytest
import torch
import yaml

from orchestrator.planning.preparation import Prepared
from orchestrator.planning.work import Event, Kind, Work
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.projection import Projection
from orchestrator.recording.sweep_directory import Run, find_runs
from orchestrator.recording.table_schemas import KEYS, SCHEMAS
from orchestrator.recording.tables import read_table
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.launch import begin
from orchestrator.running.worker.checkpoints import CheckpointFolder, Saved
from orchestrator.running.worker.worker import result_json
from tests.builders.prepared import prepare
from tests.orchestrator.running.broker.test_broker import events_of, random_curve
from trainable.atomic_files import append, observing_failpoints
from trainable.data.labelled_examples import Split
from trainable.tasks.classification.results import ClassResult

pytestmark = pytest.mark.faults

REPORTS = 2
SPACE = {
    "name": "pets",
    "dataset": {"source": "digits"},
    "search": {
        "backbone": "tiny_strokes",
        "lr": {"low": 1.0e-4, "high": 3.0e-2, "log": True},
        "label_budget": [2, 3],
    },
    "training": {"steps": 10, "reports": REPORTS},
    "trials": 2,
    "sampler": {"name": "tpe", "n_startup_trials": 1},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": [],
}
TIMES = {"started_at", "finished_at", "attempt", "sweep_id"}

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    path = tmp_path_factory.mktemp("space") / "pets.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return prepare(path)


def said_of(work: Work, prepared: Prepared) -> Iterator[Event]:
    """What a worker says of a piece of work; finals guess the first class."""
    if work.kind is Kind.TRIAL:
        yield from events_of(work, lambda work: random_curve(work)[:REPORTS])
        return
    labels = torch.from_numpy(prepared.images.labels[prepared.images.indices(Split.TEST)])
    guesses = torch.zeros(len(labels), prepared.images.num_classes, dtype=torch.float64)
    result = result_json(ClassResult.of(guesses.log_softmax(dim=1), labels))
    yield Event(run={"duration_s": 1.0}, result=result, done=True)


def run_to_its_end(prepared: Prepared, run: Run, journal: SweepJournal) -> None:
    """What the driver writes during a sweep, one piece of work at a time."""
    folder = CheckpointFolder(run.checkpoints)
    broker = Broker(prepared.space, prepared.plan, prepared.images, journal, slots=1)
    projection = Projection(run.sweep_id, broker.studies)
    while (work := broker.next_work()) != DONE:
        assert isinstance(work, Work)
        for number, event in enumerate(said_of(work, prepared)):
            if number == 1:
                with suppress(OSError):  # as the keeper does
                    folder.save(work.work_id, Saved("{}", b"tensors"))
            if broker.observe(work.work_id, event):
                break
        folder.remove(work.work_id)
        broker.settle(work.work_id)
        if work.kind is Kind.FINAL and work.repeat == 0:  # as if it was time to
            projection.write(run.path)
    projection.write(run.path)
    folder.clear()


def launch(root: Path, prepared: Prepared) -> None:
    run, opened = begin(root, prepared)
    with closing(opened) as journal:
        run_to_its_end(prepared, run, journal)


def resume(run: Run, prepared: Prepared) -> None:
    with closing(SweepJournal(run.journal)) as journal:
        run_to_its_end(prepared, run, journal)


def tables(path: Path) -> Tables:
    """What came out of a sweep, but for times; no key is there twice."""
    found = {}
    for name in SCHEMAS:
        rows = read_table(path, name).to_pylist()
        keys = Counter(tuple(row[key] for key in KEYS[name]) for row in rows)
        assert not [key for key, count in keys.items() if count > 1]
        found[name] = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    return found


def killed_at(number: int, root: Path, prepared: Prepared) -> bool:
    """Launch a sweep in another process, which ends at its n-th step; whether it came to that."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        left = number

        def count(name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with observing_failpoints(count):
                launch(root, prepared)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "the sweep failed"
    return os.WIFSIGNALED(status)


class HalfAtFirst:
    """A file of which the kernel takes a half of each record, then the rest, as it may."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._whole = False

    def write(self, part: bytes) -> int:
        taken = self._file.write(part if self._whole else part[: len(part) // 2])
        self._whole = not self._whole
        return taken


def append_in_halves(file: IO[bytes], content: bytes, name: str) -> None:
    """Append in two calls, so that there is a step at which half of a record is there."""
    append(HalfAtFirst(file), content, name)  # type: ignore[arg-type]


def test_a_death_at_any_step_of_writing_is_survived(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is handed to the kernel outlives the process; syncing is for the machine, and slow.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("orchestrator.recording.journal.append", append_in_halves)
    names: list[str] = []
    with observing_failpoints(names.append):
        launch(tmp_path / "undisturbed", prepared)
    (undisturbed,) = find_runs(tmp_path / "undisturbed")
    expected = tables(undisturbed.path)
    written = {name.partition(":")[0] for name in names}
    assert {"manifest.json", "space.yaml", "trials.parquet", "leaderboard.parquet"} <= written
    assert any("journal" in name for name in names)
    assert any("checkpoint" in name for name in names)
    assert any("partly appended" in name for name in names)

    for number, name in enumerate(names):
        root = tmp_path / str(number)
        assert killed_at(number, root, prepared), name
        runs = find_runs(root)
        if not runs:  # it had not begun to be a sweep
            assert number <= max(i for i, step in enumerate(names) if "manifest.json" in step), name
            continue
        (run,) = runs
        tables(run.path)  # every file that is there can be read
        resume(run, prepared)
        assert tables(run.path) == expected, name
        left_over = {file.name for file in run.path.iterdir() if file.name.startswith(".")}
        assert not left_over, name
        assert not run.checkpoints.exists(), name
    assert not killed_at(len(names), tmp_path / "beyond", prepared)
