"""Utilisation of a sweep's slots, with trials that only sleep, on few and on many slots.

    python tests/benchmarks/slots.py [--slots 2 8] [--quick]

Sleeping needs no processor, so that eight slots fit on any machine. The utilisation is the time
that trials slept, divided by slots times seconds, from the time when all actors have started to the
start of the last trial. A trial sleeps before each of its two reports.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Kind, Work
from orchestrator.recording.journal import SweepJournal
from orchestrator.running.broker.broker import Broker
from orchestrator.running.cluster import LOCAL
from orchestrator.running.ray_tune.actor import SweepActor
from orchestrator.running.ray_tune.attempts import Attempts
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.cluster import cluster
from orchestrator.running.ray_tune.run import run_work
from orchestrator.running.ray_tune.stopper import SweepStopper
from orchestrator.space import parse_space
from trainable.data.labelled_examples import LabelledExamples, Split

TARGET = 0.9
REPORTS = 2

SPACE = """
name: slots
dataset: {{source: digits}}
search:
  backbone: tiny_strokes
  lr: {{low: 1.0e-4, high: 3.0e-2, log: true}}
  weight_decay: {sleep_s}
  label_budget: [2]
training: {{steps: 2, reports: 2}}
trials: {trials}
sampler: {{name: random}}
pruner: {{name: none}}
finalists: {{count: 1, repeats: 2}}
baselines: []
"""


class SleepyActor(SweepActor):
    """Sleeps for as many seconds as the trial's weight decay, in equal parts before its reports."""

    def events(self, work: Work) -> Iterator[Event]:
        """Yield one event per report; finals have no result."""
        if work.kind is not Kind.TRIAL:
            yield Event(run={}, done=True)
            return
        began_at = time.time()
        for number in range(REPORTS + 1):
            if number:  # report 0 is the start
                time.sleep(work.task["weight_decay"] / REPORTS)
            yield Event(
                run={"began_at": began_at, "ended_at": time.time(), "pid": os.getpid()},
                report={"report": number, "step": number, "val_objective": 0.5, "val_loss": 1.0},
                facts={
                    "spec": work.task,
                    "frozen_boundaries": 0,
                    "num_boundaries": 4,
                    "trainable_params": 1,
                },
                done=number == REPORTS,
            )


def busy_share(*, slots: int, sleep_s: float, trials: int) -> tuple[float, int, float]:
    """Utilisation once all actors have started, number of actors, and seconds until then."""
    images = make_images()
    space = parse_space(SPACE.format(trials=trials, sleep_s=sleep_s), where="slots")
    plan = make_plan(space, images, where="slots")
    launched_at = time.time()
    with tempfile.TemporaryDirectory() as folder:
        journal = SweepJournal(Path(folder) / "journal.log")
        broker = Broker(space, plan, images, journal, slots=slots)
        run_work(
            broker,
            SleepyActor,
            parameters={},
            attempts=Attempts(broker, None, space.limits),
            resources=TrialResources(cpus=1, gpus=0),
            stopper=SweepStopper(),
            tick=lambda: None,
        )
        runs = [trial.user_attrs["run"] for trial in broker.studies["b2"].get_trials()]
        journal.close()
    first_start: dict[int, float] = {}
    for run in runs:
        first_start[run["pid"]] = min(run["began_at"], first_start.get(run["pid"], run["began_at"]))
    all_up, last_start = max(first_start.values()), max(run["began_at"] for run in runs)
    slept = sum(
        max(0.0, min(run["ended_at"], last_start) - max(run["began_at"], all_up)) for run in runs
    )
    share = slept / (slots * (last_start - all_up))
    return share, len(first_start), all_up - launched_at


def make_images() -> LabelledExamples:
    """Ten classes of two images each, and ten test images; they are never decoded."""
    return LabelledExamples.from_bytes(
        (f"image {number}".encode() for number in range(30)),
        labels=[number % 10 for number in range(30)],
        split=[Split.POOL] * 20 + [Split.TEST] * 10,
        class_names=[str(label) for label in range(10)],
        paths=[f"{number}.png" for number in range(30)],
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--quick", action="store_true", help="few and short trials only")
    options = parser.parse_args()
    print("| slots | trial sleeps, s | trials | processes | all up after, s | busy |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    shares, rows = [], []  # printed last, because a running cluster sends stdout to stderr
    for slots in options.slots:
        with cluster(LOCAL, num_cpus=slots):
            for sleep_s in (0.5,) if options.quick else (0.5, 2.0):
                # Eight actors start one after another, which takes about ten seconds.
                trials = slots * (6 if options.quick else round(30 / sleep_s**0.5))
                share, processes, up_s = busy_share(slots=slots, sleep_s=sleep_s, trials=trials)
                shares.append(share)
                rows.append(
                    f"| {slots} | {sleep_s} | {trials} | {processes} | {up_s:.0f} | {share:.1%} |"
                )
    print("\n".join(rows))
    print(f"\nAt least {min(shares):.1%} (target {TARGET:.0%})")


if __name__ == "__main__":
    main()
