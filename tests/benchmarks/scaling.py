"""Trials per second on clusters of simulated nodes: this program against a loop of Ray Tune.

    python -m tests.benchmarks.scaling [--nodes 1 2 4 8] [--trials-per-slot 30] [--sleep-s 1]
        [--sampler random] [--quick]
    python -m tests.benchmarks.scaling --nodes 8 --trials-per-slot 625    # 10,000 on 16 slots

A trial sleeps and reports once, so that there may be more slots than processors. Each node has two
slots, and its own processes of Ray. Both loops reuse actors. This program keeps its journal on disk
and writes its tables, as in a sweep. The rate is measured from the time when a tenth of the trials
has settled to the time when nine tenths have, so that neither the start of actors nor the last
round counts. In the ideal case, each slot does one trial in the time that a trial sleeps. The plan
in cluster/README.md is based on the driver's processor time, the broker's part of it, and the size
of the journal.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.cluster_utils import Cluster

from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Work
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.progress import measure
from orchestrator.recording.projection import Projection
from orchestrator.running.execution import TABLES_EVERY_S
from orchestrator.running.ray_tune.attempts import Attempts
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.run import run_work
from orchestrator.running.ray_tune.stopper import SweepStopper
from orchestrator.space import parse_space
from orchestrator.throttle import Throttled
from tests.benchmarks.overhead import NoOpActor, TimedBroker, bare_settled_at, make_images

SLOTS_PER_NODE = 2
WORST_RATIO = 1.15

SPACE = """
name: scaling
dataset: {{source: digits}}
search:
  backbone: [tiny_strokes, tiny_untrained]
  freeze_depth: {{low: 0.0, high: 1.0, step: 0.25}}
  lr: {{low: 1.0e-4, high: 3.0e-2, log: true}}
  label_budget: [2]
training: {{steps: 100, reports: 1}}
trials: {trials}
sampler: {{name: {sampler}}}
pruner: {{name: none}}
finalists: {{count: 1, repeats: 2}}
baselines: []
"""


class SleepyActor(NoOpActor):
    """Sleeps before its last event."""

    def setup(self, config: dict[str, Any], sleep_s: float = 0.0) -> None:
        """Start the first piece of work."""
        self._sleep_s = sleep_s
        super().setup(config)

    def events(self, work: Work) -> Iterator[Event]:
        """Yield the events of `NoOpActor`, with a delay before the last one."""
        for event in super().events(work):
            if event.done:
                time.sleep(self._sleep_s)
            yield event


class BareSleeper(tune.Trainable):
    """The same trial, without this program."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the first trial."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial in the same process."""
        return True

    def step(self) -> dict[str, Any]:
        """Sleep, then return a report."""
        time.sleep(self.config["sleep_s"])
        return {"score": 0.5, "done": True}


@dataclass(frozen=True)
class Measured:
    """Measurements of one loop.

    Attributes:
        per_s: sustained trials per second.
        cpu_ms: processor time of the driver per trial, in milliseconds.
        broker_ms: the part of `cpu_ms` that the broker takes.
        journal_bytes: bytes of the journal per trial.
    """

    per_s: float
    cpu_ms: float
    broker_ms: float = 0.0
    journal_bytes: float = 0.0


def sustained(settled_at: list[float]) -> float:
    """Trials per second, without the first and the last tenth of the trials."""
    first, last = len(settled_at) // 10, len(settled_at) * 9 // 10
    return (last - first) / (settled_at[last] - settled_at[first])


def run_program(*, trials: int, slots: int, sleep_s: float, sampler: str) -> Measured:
    """Run a sweep of sleeping trials, as `orchestrator.running.execution` does."""
    images = make_images()
    space = parse_space(SPACE.format(trials=trials, sampler=sampler), where="scaling")
    plan = make_plan(space, images, where="scaling")
    cpu = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(SweepJournal(folder / "journal.log")) as journal:
            broker = TimedBroker(space, plan, images, journal, slots=slots)
            projection = Projection("scaling", broker.studies)
            showing = Throttled(lambda: measure(space, broker.studies))
            writing = Throttled(lambda: projection.write(folder), every_s=TABLES_EVERY_S)

            def tick() -> None:
                showing()
                writing()

            run_work(
                broker,
                SleepyActor,
                parameters={"sleep_s": sleep_s},
                attempts=Attempts(broker, None, space.limits),
                resources=TrialResources(cpus=1, gpus=0),
                stopper=SweepStopper(),
                tick=tick,
            )
            projection.write(folder)
        num_bytes = (folder / "journal.log").stat().st_size
    seconds = broker.seconds
    return Measured(
        per_s=sustained(broker.settled_at),
        cpu_ms=1000 * (time.process_time() - cpu) / trials,
        broker_ms=1000 * (seconds.ask + seconds.report + seconds.tell) / trials,
        journal_bytes=num_bytes / trials,
    )


def run_bare(*, trials: int, slots: int, sleep_s: float) -> Measured:
    """Run Tune's own random search."""
    cpu = time.process_time()
    settled_at = bare_settled_at(BareSleeper, trials=trials, slots=slots, sleep_s=sleep_s)
    return Measured(per_s=sustained(settled_at), cpu_ms=1000 * (time.process_time() - cpu) / trials)


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """Join this process to a cluster of `count` simulated nodes and a head without slots."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            made.add_node(num_cpus=SLOTS_PER_NODE)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials-per-slot", type=int, default=30)
    parser.add_argument("--sleep-s", type=float, default=1.0)
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random")
    parser.add_argument("--quick", action="store_true", help="one and two nodes, few trials")
    options = parser.parse_args()
    per_slot = 8 if options.quick else options.trials_per_slot
    print(
        "| nodes | slots | trials | ideal, 1/s | program, 1/s | bare Tune, 1/s | time, ratio "
        "| driver, ms a trial | bare, ms a trial | broker, ms a trial | journal, bytes a trial |"
    )
    print("| ---:" * 11 + " |")
    ratios = []
    for count in (1, 2) if options.quick else options.nodes:
        slots = count * SLOTS_PER_NODE
        trials = slots * per_slot
        with nodes(count):
            program = run_program(
                trials=trials, slots=slots, sleep_s=options.sleep_s, sampler=options.sampler
            )
            print(
                f"{count} nodes: program {program.per_s:.2f}/s, {program.cpu_ms:.0f} ms a trial",
                file=sys.stderr,  # keeps one half of a long run if the other half fails
            )
            bare = run_bare(trials=trials, slots=slots, sleep_s=options.sleep_s)
        ratios.append(bare.per_s / program.per_s)
        print(
            f"| {count} | {slots} | {trials} | {slots / options.sleep_s:.2f} "
            f"| {program.per_s:.2f} | {bare.per_s:.2f} | {ratios[-1]:.3f} "
            f"| {program.cpu_ms:.0f} | {bare.cpu_ms:.0f} | {program.broker_ms:.1f} "
            f"| {program.journal_bytes:.0f} |",
            flush=True,
        )
    print(f"\nAt most {max(ratios):.3f} times bare Tune's time (target {WORST_RATIO})")


if __name__ == "__main__":
    main()
