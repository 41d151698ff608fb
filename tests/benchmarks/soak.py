"""Soak test of a sweep whose driver and workers are killed again and again.

    python -m tests.benchmarks.soak [--kills 50] [--seed 0]

The same sweep runs twice, one trial at a time: first undisturbed, then with a kill -9 of its driver
or of all its workers at random times, after each of which it is resumed. Both runs must have the
same trials with the same scores, no duplicate keys and no lost rows, and no finished trial may run
again. Otherwise the exit code is 1. The program takes about twenty minutes on two processors.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.reading.status import inspect
from orchestrator.recording.projection import load_studies
from orchestrator.recording.state import SweepState
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.user_attributes import outcomes
from tests.integration.faults import sweeps

OVERRIDES = (
    "search.backbone=[tiny_strokes, tiny_untrained]",
    "search.label_budget=[2, 5]",
    "trials=16",
    "training={steps: 160, reports: 4}",
    "sampler={name: tpe}",
    "pruner={name: median, n_startup_trials: 4}",
    "finalists={count: 2, repeats: 3}",
    "baselines=[pixels, probe]",
    "resources.max_concurrent=1",
    "checkpoint_s=0.2",
)

WORKER_KILLS = 2
"""Most kills of workers per life of the driver; a third could exhaust the attempts of a trial."""

START_S = 60.0
"""Longest time that a driver takes until its first worker runs, in seconds."""

LIFE_S = (0.5, 12.0)
"""Shortest and longest time between two kills, in seconds; imports take a worker's first few."""

END_S = 1800.0
"""Longest time that a whole sweep may take, in seconds."""

Rows = dict[str, Any]


@dataclass
class Toll:
    """Kills of a sweep, and observations between them.

    Attributes:
        drivers: number of kills of the driver.
        workers: number of kills of the workers.
        lives: number of launches and resumes.
        finished: outcome of each piece of work that had finished by the latest kill.
        problems: violations that were found.
    """

    drivers: int = 0
    workers: int = 0
    lives: int = 0
    finished: dict[str, Rows] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Number of all kills."""
        return self.drivers + self.workers

    def look(self, path: Path) -> None:
        """Note a problem for all work that had finished before and has run again or is lost."""
        now = finished(path)
        for key, run in self.finished.items():
            if now.get(key) != run:
                self.problems.append(f"{key}: had finished, and was run again or lost")
        self.finished = now


def finished(path: Path) -> dict[str, Rows]:
    """Outcomes of all finished trials, finals and baselines in the journal."""
    found: dict[str, Rows] = {}
    for name, study in load_studies(path).items():
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                found[f"{name}-{trial.number:04d}"] = trial.user_attrs["run"]
        for outcome in outcomes(study.user_attrs):
            found[f"{name} {outcome.key}"] = outcome.value["run"]
    return found


def disturb(out: Path, *, kills: int, chance: random.Random) -> tuple[Path, Toll]:
    """Kill a sweep `kills` times, then let it finish."""
    toll = Toll()
    sweep = sweeps.start(out, *OVERRIDES)
    sweep.wait_until(lambda path: (path / "manifest.json").is_file())
    path = sweep.path
    while True:
        toll.lives += 1
        if toll.kills >= kills:
            break
        live(sweep, path, toll, kills=kills, chance=chance)
        if sweep.process.poll() is None:
            sweep.kill()
            toll.drivers += 1
        toll.look(path)
        if inspect(Run(path)).state is SweepState.FINISHED:
            toll.problems.append("it was over before all kills were made; ask for fewer")
            return path, toll
        print(f"{toll.kills:3} kills, {len(toll.finished):3} pieces of work finished", flush=True)
        sweep = sweeps.start_resume(path)
    code, messages = sweep.end(timeout_s=END_S)
    if code != 0:
        toll.problems.append(f"the last resume ended with {code}: {messages[-500:]}")
    toll.look(path)
    return path, toll


def live(sweep: sweeps.Sweep, path: Path, toll: Toll, *, kills: int, chance: random.Random) -> None:
    """Run one life of the driver: its start, some work, and kills of its workers meanwhile.

    One life in five ends while the driver starts.
    """
    short = chance.random() < 0.2
    until = time.monotonic() + (chance.uniform(1.0, 8.0) if short else START_S)
    while time.monotonic() < until and sweep.process.poll() is None:
        if not short and sweep.workers():
            break
        time.sleep(0.05)
    if short:
        return
    hits = [chance.uniform(*LIFE_S) for _ in range(chance.randint(0, WORKER_KILLS))]
    for pause in hits:
        time.sleep(pause)
        workers = sweep.workers()
        if workers and toll.kills < kills - 1:
            sweeps.kill(workers)
            toll.workers += 1
    time.sleep(chance.uniform(*LIFE_S))


def main() -> None:
    """Run both sweeps, and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    start = time.monotonic()
    undisturbed = sweeps.start(folder / "undisturbed", *OVERRIDES)
    code, messages = undisturbed.end(timeout_s=END_S)
    assert code == 0, messages
    calm_s = time.monotonic() - start
    start = time.monotonic()
    path, toll = disturb(
        folder / "disturbed", kills=options.kills, chance=random.Random(options.seed)
    )
    wanted, found = sweeps.results(undisturbed.path), sweeps.results(path)
    for name, rows in wanted.items():
        if rows != found[name]:
            toll.problems.append(f"{name}: differs from the undisturbed sweep")
    attempts = [run["attempt"] for run in sweeps.runs_of(path).values()]
    resumed = sum(bool(run["from_checkpoint"]) for run in finished(path).values())
    print("|  | undisturbed | killed |")
    print("| --- | ---: | ---: |")
    print(f"| seconds | {calm_s:.0f} | {time.monotonic() - start:.0f} |")
    print(f"| lives of the driver | 1 | {toll.lives} |")
    print(f"| kills of the driver | 0 | {toll.drivers} |")
    print(f"| kills of the workers | 0 | {toll.workers} |")
    print(f"| further attempts | 0 | {sum(attempts)} |")
    print(f"| work that went on from a checkpoint | 0 | {resumed} |")
    for name, rows in wanted.items():
        print(f"| rows of {name} | {len(rows)} | {len(found[name])} |")
    print("\n".join(toll.problems) or "the same trials and scores; nothing twice, nothing lost")
    if toll.problems:
        raise SystemExit(f"kept for a look: {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
