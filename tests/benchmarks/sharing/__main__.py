"""Time that shared features save: sft-sweep against plain Ray Tune and Ray Tune by an expert.

    python -m tests.benchmarks.sharing [--cases equal protocol limit warm]
        [--depths mixed deep head] [--steps 40] [--rounds 2] [--quick]

The data are scikit-learn's digits as JPEG files of 64 x 64 pixels. The network is a ResNet-18 with
fixed random weights. Label budgets are 2, 5 and 10 per class with six trials each, and two trials
run at a time with one thread each. The program prints one table per case, in which `ours` is
sft-sweep:

equal
    All contestants run the same trials with the same updates, folds and evaluations; no trial is
    pruned or refitted. `plain` is Ray Tune as in PyTorch's tutorials. `expert` reuses processes,
    keeps decoded images in memory, and runs the frozen blocks outside autograd. Time is measured
    from the request for the first trial to the end of the last one. It includes the start of trial
    processes, which every user pays for, but not the start of Ray.
protocol
    sft-sweep launches a sweep with a holdout, refits the best trial of each budget and scores it on
    the test set. Plain Ray Tune trains on the same images, scores the whole test set after every
    epoch, and selects by these scores. Time is measured from the start of Ray.
limit
    sft-sweep is compared with the least arithmetic for the same trials, at the rate that this
    machine reaches. After `equal`, so are the other contestants. No schedule can be faster
    than a contestant by more than this ratio.
warm
    A sweep of sft-sweep runs again with the feature store of the first run, and with ten times as
    many trials.

Every run has a process of its own and, except in `warm`, an empty feature store of its own.
Contestants take turns in alternating order, and the median is reported. With --quick, there are six
short trials, and the cases are `equal` with mixed depths and `limit`, unless others are named.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.sharing.clock import Measured
from tests.benchmarks.sharing.fresh import run_fresh
from tests.benchmarks.sharing.limit import least
from tests.benchmarks.sharing.work import Task
from tests.benchmarks.sharing.workplace import Workplace

CASES = ("equal", "protocol", "limit", "warm")
GRIDS = {"mixed": (0.0, 0.5, 1.0), "deep": (0.5, 0.75, 1.0), "head": (1.0,)}
TARGETS = {
    "mixed": {"plain": 2.5, "expert": 1.7},
    "deep": {"plain": 5.0, "expert": 3.0},
    "head": {"plain": 25.0, "expert": 15.0},
}
PROTOCOL_TARGET = 6.0
LIMIT_TARGET = 1.5
GROWTH = 10
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of the benchmark.

    Attributes:
        budgets: labels per class.
        trials: number of trials per budget.
        steps: updates per fold of a trial.
        rounds: runs of each contestant.
        finalists: configurations per budget that are refitted in `protocol`.
        repeats: fresh draws for each finalist.
        times: number of passes of each kind that `limit` times.
    """

    budgets: tuple[int, ...] = (2, 5, 10)
    trials: int = 6
    steps: int = 40
    rounds: int = 2
    finalists: int = 1
    repeats: int = 2
    times: int = 15


def make_task(size: Size, depths: Sequence[float], *, trials: int, folds: int | None = 2) -> Task:
    """The task with one grid of freeze depths.

    Args:
        size: size of the benchmark.
        depths: the freeze depths.
        trials: number of trials per budget.
        folds: number of folds of the cross-validation; None for a holdout.
    """
    lrs = np.geomspace(3e-4, 3e-3, max(1, trials // len(depths)))
    return Task(
        depths=tuple(depths),
        lrs=tuple(float(f"{lr:.6g}") for lr in lrs),
        budgets=size.budgets,
        steps=size.steps,
        reports=4,
        folds=folds,
        finalists=size.finalists,
        repeats=size.repeats,
    )


def take_turns(names: Sequence[str], path: Path, *, rounds: int) -> dict[str, list[Measured]]:
    """Run several contestants in turn, in reversed order every other round."""
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            runs[name].append(run_fresh(name, path))
    return runs


def seconds(runs: Sequence[Measured]) -> float:
    """Median seconds of some runs."""
    return statistics.median(run.seconds for run in runs)


def accuracy(runs: Sequence[Measured]) -> str:
    """Mean accuracy of some runs, as the table shows it."""
    return f"{statistics.mean(run.accuracy for run in runs):.1%}"


def show_equal(place: Workplace, size: Size, grid: str) -> dict[str, float]:
    """Print the table of one grid of depths; return the seconds of each contestant."""
    path = place.work(make_task(size, GRIDS[grid], trials=size.trials), name=grid)
    runs = take_turns(("ours", "plain", "expert"), path, rounds=size.rounds)
    print(f"\nEqual work, {grid} depths ({', '.join(f'{depth:g}' for depth in GRIDS[grid])}):\n")
    print("| contestant | seconds | to ours | target | before that, s | accuracy held out |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours_s = seconds(runs["ours"])
    for name, found in runs.items():
        target = f"{TARGETS[grid][name]:g}" if name in TARGETS[grid] else ""
        before_s = statistics.median(run.before_s for run in found)
        print(
            f"| {name} | {seconds(found):.1f} | {seconds(found) / ours_s:.2f} | {target} "
            f"| {before_s:.1f} | {accuracy(found)} |",
            flush=True,
        )
    return {name: seconds(found) for name, found in runs.items()}


def show_protocol(place: Workplace, size: Size) -> None:
    """Print the table of whole launches."""
    task = make_task(size, GRIDS["mixed"], trials=size.trials, folds=None)
    path = place.work(task, name="protocol")
    runs = take_turns(("ours protocol", "plain protocol"), path, rounds=size.rounds)
    print("\nFrom launch to leaderboard, mixed depths:\n")
    print("| contestant | seconds | to ours | target | accuracy of the best on test images |")
    print("| --- | ---: | ---: | ---: | ---: |")
    ours_s = seconds(runs["ours protocol"])
    for name, found in runs.items():
        target = f"{PROTOCOL_TARGET:g}" if name == "plain protocol" else ""
        print(
            f"| {name} | {seconds(found):.1f} | {seconds(found) / ours_s:.2f} | {target} "
            f"| {accuracy(found)} |",
            flush=True,
        )


def show_limit(place: Workplace, size: Size, grid: str, *, taken: dict[str, float]) -> None:
    """Print the table of the arithmetic that cannot be avoided.

    Args:
        place: folder of the images, the weights and the work.
        size: size of the benchmark.
        grid: name of the grid of depths.
        taken: seconds of each contestant; those of sft-sweep are measured here if they are missing.
    """
    path = place.work(make_task(size, GRIDS[grid], trials=size.trials), name=f"limit-{grid}")
    if "ours" not in taken:
        taken = {"ours": seconds([run_fresh("ours", path) for _ in range(size.rounds)])}
    shares = least(path, times=size.times)
    total_s = sum(share.seconds for share in shares)
    print(f"\nThe least arithmetic of the trials on {grid} depths:\n")
    print("| part | TFLOP | GFLOP/s | seconds |")
    print("| --- | ---: | ---: | ---: |")
    for share in shares:
        print(
            f"| {share.part} | {share.flops / 1e12:.3f} | {share.flops / share.seconds / 1e9:.1f} "
            f"| {share.seconds:.2f} |"
        )
    flops = sum(share.flops for share in shares)
    print(f"| all | {flops / 1e12:.3f} | {flops / total_s / 1e9:.1f} | {total_s:.2f} |")
    print()
    for name, its_s in taken.items():
        target = f" (target {LIMIT_TARGET:g})" if (name, grid) == ("ours", "mixed") else ""
        print(f"{name} takes {its_s:.1f} s, {its_s / total_s:.2f} times the limit{target}")
    sys.stdout.flush()


def show_warm(place: Workplace, size: Size) -> None:
    """Print the tables of a second sweep with the same store, and of one with more trials."""
    mixed = place.work(make_task(size, GRIDS["mixed"], trials=size.trials), name="again")
    with tempfile.TemporaryDirectory() as folder:
        runs = [run_fresh("ours", mixed, store=Path(folder)) for _ in range(2)]
    print("\nThe same sweep of mixed depths twice, with one store:\n")
    print("| run | seconds | features, s over all trials | accuracy held out |")
    print("| --- | ---: | ---: | ---: |")
    for name, run in zip(("first", "second"), runs, strict=True):
        print(f"| {name} | {run.seconds:.1f} | {run.features_s:.2f} | {run.accuracy:.1%} |")
    print(f"\n{GROWTH} times the trials, depth 1, empty stores:\n")
    print("| trials | seconds | to the first | peak memory of a process, MiB |")
    print("| ---: | ---: | ---: | ---: |", flush=True)
    first_s = None
    for factor in (1, GROWTH):
        task = make_task(size, GRIDS["head"], trials=size.trials * factor)
        run = run_fresh("ours", place.work(task, name=f"times{factor}"))
        first_s = first_s or run.seconds
        trials = task.trials_per_budget * len(task.budgets)
        print(
            f"| {trials} | {run.seconds:.1f} | {run.seconds / first_s:.2f} "
            f"| {run.peak_memory_bytes / MIB:.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.sharing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", choices=CASES)
    parser.add_argument("--depths", nargs="+", choices=list(GRIDS), help="of equal and limit")
    parser.add_argument("--steps", type=int, help="updates of each fold of a trial")
    parser.add_argument("--rounds", type=int, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="six short trials, one round")
    given = parser.parse_args()
    size = Size()
    if given.quick:
        size = Size(budgets=(2, 5), trials=3, steps=6, rounds=1, finalists=1, repeats=2, times=3)
    chosen = {name: getattr(given, name) for name in ("steps", "rounds") if getattr(given, name)}
    size = dataclasses.replace(size, **chosen)
    cases = given.cases or (("equal", "limit") if given.quick else CASES)
    grids = given.depths or (("mixed",) if given.quick else tuple(GRIDS))
    taken: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder))
        if "equal" in cases:
            for grid in grids:
                taken[grid] = show_equal(place, size, grid)
        if "protocol" in cases:
            show_protocol(place, size)
        if "limit" in cases:
            for grid in grids:
                show_limit(place, size, grid, taken=taken.get(grid, {}))
        if "warm" in cases:
            show_warm(place, size)


if __name__ == "__main__":
    main()
