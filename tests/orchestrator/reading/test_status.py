"""A sweep looked at from outside: what failed, and what was lost and has not settled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.main import run as run_command
from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Failure, Kind, Loss, Work
from orchestrator.reading.status import inspect
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.sweep_directory import Run
from orchestrator.running.broker.broker import Broker
from orchestrator.space import parse_space
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.metrics import Metric

LOSS = Loss(failure=Failure.NOT_STARTED, reason="ImportError: no pets")
RESULT = {"validation": {metric.value: 0.5 for metric in Metric}}
SPACE: dict[str, Any] = {
    "dataset": {"source": "digits"},
    "search": {"backbone": ["tiny_strokes"], "label_budget": [2]},
    "trials": 2,
    "sampler": {"name": "random"},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": ["pixels"],
}
IMAGES = LabelledExamples.from_bytes(
    (f"image {number}".encode() for number in range(60)),
    labels=[number % 10 for number in range(60)],
    split=[Split.POOL] * 50 + [Split.TEST] * 10,
    class_names=[str(label) for label in range(10)],
    paths=[f"{number}.png" for number in range(60)],
)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[tuple[Run, Broker]]:
    """A sweep directory in which a broker runs with two slots."""
    run = Run(tmp_path)
    text = yaml.safe_dump(SPACE)
    run.space.write_text(text)
    (tmp_path / "manifest.json").write_text("{}")
    space = parse_space(text, where="space.yaml")
    plan = make_plan(space, IMAGES, where="space.yaml")
    with closing(SweepJournal(run.journal)) as journal:
        yield run, Broker(space, plan, IMAGES, journal, slots=2)


def take(broker: Broker, kind: Kind) -> Work:
    work = broker.next_work()
    assert isinstance(work, Work)
    assert work.kind is kind
    return work


def test_what_was_lost_is_shown_until_it_settles(sweep: tuple[Run, Broker]) -> None:
    run, broker = sweep
    baseline, trial = take(broker, Kind.BASELINE), take(broker, Kind.TRIAL)
    for work in (baseline, trial):
        broker.note_loss(work.work_id, LOSS)
    assert inspect(run).losses == {
        "b2-pixels": "not_started: ImportError: no pets",
        "b2-0000": "not_started: ImportError: no pets",
    }
    broker.observe(baseline.work_id, Event(run={}, result=RESULT, done=True))
    broker.settle(baseline.work_id)
    broker.settle(trial.work_id, loss=LOSS)
    seen = inspect(run)
    assert seen.losses == {}
    assert seen.failures == {"b2-0000": "not_started: ImportError: no pets"}


def test_status_shows_why_a_sweep_did_not_begin(
    sweep: tuple[Run, Broker], capsys: pytest.CaptureFixture[str]
) -> None:
    run, broker = sweep
    broker.note_loss(take(broker, Kind.BASELINE).work_id, LOSS)
    assert run_command(["status", str(run.path)]) == 0
    told = "b2-pixels: not settled; its newest process was lost: not_started: ImportError: no pets"
    assert told in capsys.readouterr().out
    assert run_command(["status", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] == {
        "b2-pixels": "not_started: ImportError: no pets"
    }
