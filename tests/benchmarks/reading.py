"""Duration of the commands that read a large sweep, of 10,000 trials by default.

    python -m tests.benchmarks.reading [--trials 10000]

The sweep is over the digits and has four budgets, 5 reports per trial, and 3 finalists and 4
baselines per budget with 5 repeats each. Its scores are made up; the broker, the journal and the
tables are real. Each command runs twice in one process, and the second run is timed, so that
imports do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import yaml

from orchestrator.cli.main import run
from orchestrator.datasets import digits
from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Kind, Work
from orchestrator.recording.array_text import to_text
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.projection import rebuild
from orchestrator.recording.sweep_directory import Run, write_manifest, write_text
from orchestrator.running.broker.broker import Broker
from orchestrator.space import parse_space
from trainable.data.labelled_examples import Split

REPORTS = 5
SPACE = """
name: large
dataset: {{source: digits}}
search:
  backbone: [tiny_strokes, tiny_fractals, tiny_untrained]
  freeze_depth: {{low: 0.0, high: 1.0, step: 0.25}}
  lr: {{low: 1.0e-4, high: 3.0e-2, log: true}}
  label_budget: [2, 5, 10, 20]
training: {{steps: 100, reports: {reports}}}
trials: {trials}
sampler: {{name: random}}
pruner: {{name: none}}
finalists: {{count: 3, repeats: 5}}
baselines: [pixels, probe]
"""

COMMANDS: dict[str, list[str]] = {
    "leaderboard": ["leaderboard"],
    "leaderboard --target 0.95": ["leaderboard", "--target", "0.95"],
    "leaderboard --json --top 10000": ["leaderboard", "--json", "--top", "10000"],
    "query: trials by state": ["query", "SELECT state, count(*) FROM trials GROUP BY ALL"],
    "query: hardest images": [
        "query",
        "SELECT path, avg((label = predicted)::INT) AS right FROM predictions "
        "GROUP BY ALL ORDER BY 2, 1 LIMIT 10",
    ],
    "query: all curves as CSV": ["query", "FROM curves", "--csv"],
    "report": ["report"],
    "status": ["status"],
}
"""Arguments of the commands that are timed, without the directory."""


def main() -> None:
    """Make a sweep and print a table of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "large"
        make_sweep(directory, trials=given.trials)
        size = sum(path.stat().st_size for path in directory.iterdir()) / 2**20
        print(f"{given.trials:,} trials: {size:.1f} MiB\n")
        print("| command | seconds | MiB out |")
        print("| --- | ---: | ---: |")
        for name, arguments in COMMANDS.items():
            seconds, written = [_time([*arguments, str(directory)]) for _ in range(2)][-1]
            if name == "report":
                written = (directory / "report.html").stat().st_size
            print(f"| {name} | {seconds:.2f} | {written / 2**20:.2f} |", flush=True)


def _time(arguments: list[str]) -> tuple[float, int]:
    """Seconds that a command takes, and the number of characters that it prints."""
    sink = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(sink):
        code = run(arguments)
    if code:
        raise RuntimeError(f"{arguments}: exit code {code}")
    return time.perf_counter() - start, len(sink.getvalue())


def make_sweep(directory: Path, *, trials: int) -> None:
    """Make the directory of a finished sweep with this number of trials."""
    directory.mkdir(parents=True)
    sweep = Run(directory)
    space = parse_space(SPACE.format(reports=REPORTS, trials=trials // 4), where="benchmark")
    images = digits.load(test=None, seed=space.seed)
    write_text(sweep.space, yaml.safe_dump(space.to_json(), sort_keys=False))
    write_manifest(sweep, {"space_hash": space.fingerprint()})
    rng = np.random.default_rng(0)
    labels = images.labels[images.indices(Split.TEST)]
    plan = make_plan(space, images, where="benchmark")
    with mock.patch("os.fsync"):  # nobody needs this journal after a power cut
        journal = SweepJournal(sweep.journal)
        broker = Broker(space, plan, images, journal, slots=1, deadline=None)
        while isinstance(work := broker.next_work(), Work):
            for event in _events(work, labels, rng):
                broker.observe(work.work_id, event)
            broker.settle(work.work_id)
        journal.close()
        rebuild(directory, sweep.sweep_id)


def _events(work: Work, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> Iterator[Event]:
    """Yield the events that an actor would send about a piece of work with made-up scores."""
    now = datetime.now(tz=UTC).isoformat()
    about: dict[str, Any] = {
        "duration_s": float(rng.uniform(0.2, 10)),
        "started_at": now,
        "finished_at": now,
        "device": "cpu",
        "host": "host",
        "prefix_flops_asked": 1e9,
        "prefix_flops_computed": 1e8,
        "cache_hits": 1,
        "cache_misses": 1,
    }
    if work.kind is Kind.TRIAL:
        facts: dict[str, Any] | None = {
            "spec": work.task,
            "weights": "none",
            "boundary": "layer",
            "frozen_boundaries": 3,
            "num_boundaries": 8,
            "trainable_params": 1000,
            "folds": 2,
            "num_val": 20,
        }
        for number in range(REPORTS + 1):  # the start is report 0
            score = float(np.clip(0.5 + 0.08 * number + 0.05 * rng.normal(), 0, 1))
            report = {
                "report": number,
                "step": 20 * number,
                "train_loss": 1 - score,
                "val_loss": 1 - score,
                "val_accuracy": score,
                "val_balanced_accuracy": score,
                "val_objective": score,
                "elapsed_s": 0.1 * number,
            }
            yield Event(run=about, report=report, facts=facts, done=number == REPORTS)
            facts = None
    elif work.kind is Kind.FINAL:
        yield Event(run=about, result=_test(labels, rng), done=True)
    else:
        scores = {"accuracy": 0.8, "balanced_accuracy": 0.8, "log_loss": 0.6, "count": 20}
        result = {
            "weights": None,
            "inverse_penalty": 1.0,
            "num_features": 64,
            "labels_used": 20,
            "num_classes": 10,
            "folds": 2,
            "validation": scores,
            "tests": [_test(labels, rng) for _ in range(work.task["repeats"])],
        }
        yield Event(run=about, result=result, done=True)


def _test(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, Any]:
    right = rng.random(len(labels)) < 0.9
    sure = rng.uniform(0.5, 1, len(labels))
    accuracy = float(right.mean())
    return {
        "scores": {
            "accuracy": accuracy,
            "balanced_accuracy": accuracy,
            "log_loss": 0.3,
            "ece": 0.1,
            "count": len(labels),
        },
        "predicted": to_text(np.where(right, labels, (labels + 1) % 10).astype(np.int32)),
        "probability": to_text(sure),
        "label_probability": to_text(np.where(right, sure, 1 - sure)),
    }


if __name__ == "__main__":
    main()
