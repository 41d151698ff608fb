"""sft-sweep beside a Trainer of transformers under Ray Tune, on the shipped questions.

    pip install accelerate  # which Trainer needs and this program does not
    python -m tests.benchmarks.text_trainer MODEL [--accelerate FOLDER] [--grids depths heads]
        [--labels 20] [--lrs 4] [--steps 60] [--rounds 1] [--quick]

MODEL is a folder or a name on the hub, as behind `transformers:`. `--accelerate` names a folder
that `pip install --target FOLDER --no-deps accelerate` wrote, for an environment without it.

`depths` has trials of depth 0.5, 0.75 and 1; `heads` as many of depth 1 alone. Both contestants run
the same trials with the same updates, batch sizes, rates, texts and evaluations, and freeze the
same parameters; two trials at a time with one thread each. `ours, whole recipe` does more than that
for each trial (`RECIPES`). Contestants take turns, each in a process of its own, ours with an empty
feature store; medians count.

`trials` runs from the first trial asked for to the end of the last one, processes of trials
included; `all` from the start of the program, so with its imports, with what is read and prepared,
and with the start of Ray. `processors` are the seconds that its processes computed in that time,
which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.sharing import ours
from tests.benchmarks.sharing.clock import Measured
from tests.benchmarks.sharing.fresh import STORE
from tests.benchmarks.sharing.work import mean
from tests.benchmarks.start import SCAN_S, ProcessTree
from tests.benchmarks.text_trainer import baseline
from tests.benchmarks.text_trainer.work import Task, Work, write_work
from tests.builders.text_models import save_text_model

GRIDS = {"depths": (0.5, 0.75, 1.0), "heads": (1.0,)}
TARGETS = {"depths": 2.5, "heads": 20.0}
BASELINE = "Trainer"
RESULT = "result: "
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a contestant.

    Attributes:
        all_s: seconds of its process.
        cpu_s: processor seconds of its process and of all that came of it.
        trials_s: seconds of its trials.
        accuracy: see `Measured`.
        by_depth: mean seconds of a trial, without the start of its process.
    """

    all_s: float
    cpu_s: float
    trials_s: float
    accuracy: float
    by_depth: dict[str, float]


def run_ours(path: Path, *, recipe: str) -> tuple[Measured, dict[float, float]]:
    """See `baseline.run_trials`; `recipe` is one of `RECIPES`."""
    work = Work.load(path)
    measured, trials = ours.run_space(Path(work.spaces[recipe]), num_trials=work.task.num_trials)
    by_depth: dict[float, list[float]] = defaultdict(list)
    for trial in trials:
        by_depth[trial["freeze_depth"]].append(trial["duration_s"])
    return measured, {depth: mean(seconds) for depth, seconds in by_depth.items()}


CONTESTANTS: dict[str, Callable[[Path], tuple[Measured, dict[float, float]]]] = {
    "ours": partial(run_ours, recipe="equal"),
    "ours, whole recipe": partial(run_ours, recipe="whole"),
    BASELINE: baseline.run_trials,
}


def run_fresh(name: str, path: Path, *, accelerate: str | None) -> Run:
    """One run in a new process.

    Raises:
        RuntimeError: it failed; the message is the end of what it printed.
    """
    seen = [str(ROOT), *([accelerate] if accelerate and name == BASELINE else [])]
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as store,
        tempfile.TemporaryFile("w+") as printed,
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.text_trainer", "--run", name, str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(seen), STORE: store},
            stdout=printed,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        tree = ProcessTree(process.pid)
        while process.poll() is None:
            tree.scan()
            time.sleep(SCAN_S)
        printed.seek(0)
        lines = printed.read().splitlines()
    results = [line.removeprefix(RESULT) for line in lines if line.startswith(RESULT)]
    if process.returncode or not results:
        raise RuntimeError("\n".join([f"{name}:", *lines[-60:]]))
    found: dict[str, Any] = json.loads(results[-1])
    run = Run(
        all_s=time.perf_counter() - start,
        cpu_s=sum(tree.by_process().values()),
        trials_s=found["measured"]["seconds"],
        accuracy=found["measured"]["accuracy"],
        by_depth=found["by_depth"],
    )
    print(f"{name}: {run}", file=sys.stderr, flush=True)
    return run


def show(grid: str, task: Task, runs: dict[str, list[Run]]) -> None:
    """Print the tables of one grid."""
    depths = ", ".join(f"{depth:g}" for depth in task.depths)
    print(
        f"\n{task.num_trials} trials of {task.steps} updates of {task.batch_size} texts, "
        f"{task.reports + 1} evaluations, {task.labels} labels a class, depths {depths}:\n"
    )
    print(
        "| contestant | trials, s | to ours | target | all, s | to ours | processors, s | to ours "
        "| accuracy held out |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, found in runs.items():
        columns = [f"{name}"]
        for what in ("trials_s", "all_s", "cpu_s"):
            its, ours_s = (
                statistics.median(getattr(one, what) for one in runs[who]) for who in (name, "ours")
            )
            columns += [f"{its:.1f}", f"{its / ours_s:.2f}"]
        columns.insert(3, f"{TARGETS[grid]:g}" if name == BASELINE else "")
        columns.append(f"{mean(one.accuracy for one in found):.1%}")
        print(f"| {' | '.join(columns)} |")
    print("\n| depth | updates | Trainer, s a trial | ours, s a trial | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for depth in task.depths:
        ours_s, its_s = (
            statistics.median(one.by_depth[str(depth)] for one in runs[name])
            for name in ("ours", BASELINE)
        )
        print(
            f"| {depth:g} | {task.steps} | {its_s:.2f} | {ours_s:.2f} | {its_s / ours_s:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.text_trainer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", help="folder, or name on the hub")
    parser.add_argument("--accelerate", metavar="FOLDER")
    parser.add_argument("--grids", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--labels", type=int, default=20, help="per class")
    parser.add_argument("--lrs", type=int, default=4, help="learning rates of each depth")
    parser.add_argument("--steps", type=int, default=60, help="updates of a trial")
    parser.add_argument("--reports", type=int, default=4, help="evaluations of a trial")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="a tiny model, three short trials")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        name, path = given.run
        measured, by_depth = CONTESTANTS[name](Path(path))
        print(RESULT + json.dumps({"measured": asdict(measured), "by_depth": by_depth}))
        return
    if given.quick:
        given.labels, given.lrs, given.steps, given.reports = 4, 1, 4, 2
    elif given.model is None:
        parser.error("name a model, or take --quick")
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or str(save_text_model(Path(folder) / "model"))
        if Path(model).is_dir():  # processes of trials run elsewhere
            model = str(Path(model).resolve())
        for grid in given.grids:
            task = Task(
                depths=GRIDS[grid],
                lrs=_rates(given.lrs * len(GRIDS["depths"]) // len(GRIDS[grid])),
                labels=given.labels,
                steps=given.steps,
                reports=given.reports,
                batch_size=16,
            )
            place = Path(folder) / grid
            place.mkdir()
            path = write_work(task, model, place)
            show(grid, task, take_turns(path, rounds=given.rounds, accelerate=given.accelerate))


def take_turns(path: Path, *, rounds: int, accelerate: str | None) -> dict[str, list[Run]]:
    """Runs of all contestants, every other round in reversed order."""
    runs: dict[str, list[Run]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in list(CONTESTANTS)[:: 1 if number % 2 == 0 else -1]:
            runs[name].append(run_fresh(name, path, accelerate=accelerate))
    return runs


def _rates(count: int) -> tuple[float, ...]:
    """So many rates between 3e-5 and 3e-4."""
    return tuple(float(f"{lr:.3g}") for lr in np.geomspace(3e-5, 3e-4, count))


if __name__ == "__main__":
    main()
