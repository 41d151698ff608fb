"""Overhead of a trial beyond its own work: this program against a bare loop of Ray Tune.

    python tests/benchmarks/overhead.py [--trials 100 1000] [--reports 1 5]
        [--sampler tpe] [--profile] [--quick]

Trials only report. Both loops have two slots, reused actors and the same settings of Tune. The time
of a trial is the time from the first settled trial to the last, divided by the number of trials in
between, so that the start of Ray and its actors does not count. This program's time includes the
broker, the journal on disk, and the tables, which are written every five seconds as in a sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, RunConfig, TuneConfig

from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Kind, Loss, Work
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.progress import measure
from orchestrator.recording.projection import Projection
from orchestrator.running.broker.broker import Broker, Seconds
from orchestrator.running.cluster import LOCAL
from orchestrator.running.execution import TABLES_EVERY_S
from orchestrator.running.ray_tune.actor import SweepActor
from orchestrator.running.ray_tune.attempts import Attempts
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.cluster import cluster
from orchestrator.running.ray_tune.run import run_work
from orchestrator.running.ray_tune.stopper import SweepStopper
from orchestrator.space import parse_space
from orchestrator.throttle import Throttled
from trainable.data.labelled_examples import LabelledExamples, Split

SLOTS = 2
NUM_TEST = 797  # as in the digits
TARGET_S = 0.15

SPACE = """
name: overhead
dataset: {{source: digits}}
search:
  backbone: [tiny_strokes, tiny_untrained]
  freeze_depth: {{low: 0.0, high: 1.0, step: 0.25}}
  lr: {{low: 1.0e-4, high: 3.0e-2, log: true}}
  label_budget: [2]
training: {{steps: 100, reports: {reports}}}
trials: {trials}
sampler: {{name: {sampler}}}
finalists: {{count: 1, repeats: 2}}
baselines: []
"""


class NoOpActor(SweepActor):
    """Reports made-up scores at once, in the form in which fine-tuning reports."""

    def events(self, work: Work) -> Iterator[Event]:
        """Yield one event per report; finals have no result."""
        if work.kind is not Kind.TRIAL:
            yield Event(run={"duration_s": 0.0}, done=True)
            return
        facts: dict[str, Any] | None = {
            "spec": work.task,
            "weights": "none",
            "boundary": "layer3.2.add",
            "frozen_boundaries": 3,
            "num_boundaries": 8,
            "prefix_params_fraction": 0.5,
            "prefix_flops_fraction": 0.5,
            "trainable_params": 1000,
            "total_params": 2000,
            "folds": 2,
            "num_val": 20,
        }
        reports = work.task["reports"]
        for number in range(reports + 1):  # the start is report 0
            score = 0.5 + 0.01 * number
            report = {
                "report": number,
                "step": number,
                "train_loss": 1.0,
                "val_loss": 1.0,
                "val_accuracy": score,
                "val_balanced_accuracy": score,
                "val_objective": score,
                "elapsed_s": 0.0,
            }
            run: dict[str, Any] = {
                "duration_s": 0.0,
                "setup_s": 0.0,
                "features_s": 0.0,
                "train_s": 0.0,
            }
            run |= {"device": "cpu", "host": "localhost", "peak_memory_bytes": None}
            yield Event(run=run, report=report, facts=facts, done=number == reports)
            facts = None


class TimedBroker(Broker):
    """Records when each trial settled; finals are not recorded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settled_at: list[float] = []

    def settle(self, work_id: str, *, loss: Loss | None = None) -> None:
        """Settle a piece of work and record the time."""
        super().settle(work_id, loss=loss)
        if "/" not in work_id:
            self.settled_at.append(time.perf_counter())


class BareTrainable(tune.Trainable):
    """The same trial, without this program."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the first trial."""
        self._number = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial in the same process."""
        self._number = 0
        return True

    def step(self) -> dict[str, Any]:
        """Return one report."""
        self._number += 1
        return {"score": 0.5, "done": self._number > self.config["reports"]}


class SettledTimes(Callback):
    """Records when each Tune trial was complete."""

    def __init__(self) -> None:
        self.settled_at: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record the time."""
        self.settled_at.append(time.perf_counter())


@dataclass(frozen=True)
class Measured:
    """Seconds per trial, and the seconds of each of the broker's calls."""

    per_trial_s: float
    broker: Seconds


def per_trial(settled_at: list[float]) -> float:
    """Mean seconds from one settled trial to the next."""
    return (settled_at[-1] - settled_at[0]) / (len(settled_at) - 1)


def run_program(*, trials: int, reports: int, sampler: str) -> Measured:
    """Run a sweep of trials that only report, as `orchestrator.running.launch` does."""
    images = make_images()
    text = SPACE.format(trials=trials, reports=reports, sampler=sampler)
    space = parse_space(text, where="overhead")
    plan = make_plan(space, images, where="overhead")
    with tempfile.TemporaryDirectory() as folder:
        journal = SweepJournal(Path(folder) / "journal.log")
        broker = TimedBroker(space, plan, images, journal, slots=SLOTS)
        projection = Projection("overhead", broker.studies)
        showing = Throttled(lambda: measure(space, broker.studies))
        writing = Throttled(lambda: projection.write(Path(folder)), every_s=TABLES_EVERY_S)

        def tick() -> None:
            showing()
            writing()

        run_work(
            broker,
            NoOpActor,
            parameters={},
            attempts=Attempts(broker, None, space.limits),
            resources=TrialResources(cpus=1, gpus=0),
            stopper=SweepStopper(),
            tick=tick,
        )
        projection.write(Path(folder))
        journal.close()
    return Measured(per_trial(broker.settled_at), broker.seconds)


def run_bare(*, trials: int, reports: int) -> float:
    """Mean seconds per trial of Tune's own random search."""
    return per_trial(bare_settled_at(BareTrainable, trials=trials, slots=SLOTS, reports=reports))


def bare_settled_at(
    trainable: type[tune.Trainable], *, trials: int, slots: int, **config: Any
) -> list[float]:
    """Times at which the trials of Tune's own random search were complete.

    `run_work` has set Tune's environment variables. One of them is changed here, because with it
    Tune would create all trials at once, and they would wait for actors.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    times = SettledTimes()
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"lr": tune.loguniform(1e-4, 3e-2), **config},
            tune_config=TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=RunConfig(
                name="bare",
                storage_path=folder,
                verbose=0,
                callbacks=[times],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return times.settled_at


def make_images() -> LabelledExamples:
    """Ten classes of eight images each, and the test images; they are never decoded."""
    pool, classes = 80, 10
    count = pool + NUM_TEST
    return LabelledExamples.from_bytes(
        (f"image {number}".encode() for number in range(count)),
        labels=[number % classes for number in range(count)],
        split=[Split.POOL] * pool + [Split.TEST] * NUM_TEST,
        class_names=[str(label) for label in range(classes)],
        paths=[f"{number}.png" for number in range(count)],
    )


@contextlib.contextmanager
def profiled(on: bool) -> Iterator[None]:
    """Profile the block if asked to, and print where the driver spends its time."""
    if not on:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--reports", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random")
    parser.add_argument("--quick", action="store_true", help="20 trials only")
    parser.add_argument("--profile", action="store_true", help="profile the driver")
    options = parser.parse_args()
    counts = [20] if options.quick else options.trials
    print(
        "| trials | reports | program, s a trial | bare Tune, s a trial | ratio "
        "| ask, ms | report, ms | tell, ms |"
    )
    print("| ---: |" + " ---: |" * 7)
    shares: dict[int, list[float]] = {}
    rows = []  # printed last, because a running cluster sends stdout to stderr
    with cluster(LOCAL, num_cpus=SLOTS):
        for reports in options.reports:
            for trials in counts:
                with profiled(options.profile):
                    program = run_program(trials=trials, reports=reports, sampler=options.sampler)
                bare = run_bare(trials=trials, reports=reports)
                seconds = program.broker
                parts = (seconds.ask, seconds.report, seconds.tell)
                rows.append(
                    f"| {trials} | {reports} | {program.per_trial_s:.3f} | {bare:.3f} "
                    f"| {program.per_trial_s / bare:.2f} | "
                    + " | ".join(f"{1000 * part / trials:.1f}" for part in parts)
                    + " |"
                )
                shares.setdefault(reports, []).append(program.per_trial_s)
    print("\n".join(rows))
    worst = max(share for found in shares.values() for share in found)
    growth = statistics.mean(found[-1] / found[0] for found in shares.values())
    print(
        f"\nAt most {worst:.3f} s a trial (target {TARGET_S}); from {counts[0]} to {counts[-1]} "
        f"trials it grows by a factor of {growth:.2f} (target 1.20)"
    )


if __name__ == "__main__":
    main()
