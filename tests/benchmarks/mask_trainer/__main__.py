"""sft-sweep beside plain Ray Tune over torchvision's loop for segmentation, on images with masks.

    python -m tests.benchmarks.mask_trainer [--backbones lraspp_mobilenet_v3_large fcn_resnet50]
        [--rounds 1] [--quick]

The images are shapes in noise, which the program draws. Both contestants run the same trials of
depth 0.5, 0.75 and 1, each in 3 folds, with the same updates, batch sizes, rates, images and
evaluations, and freeze the same parameters; two trials at a time with one thread each. The finals
follow: the configuration that ours chooses in its first run, twice on the whole budget, scored on
the test images. Weights are random, heads of ours start at zero, and nothing is interpolated.

Contestants take turns, each run in a process of its own, ours with an empty feature store; medians
count. Each backbone has a sweep of its own, so that its wall seconds can be told. `all backbones`
are their sums.

60 updates at 4 rates would take more than an hour of two cores. `SIZES` says how many there are, so
that a run takes less than 12 minutes.

`trials, s` runs from the first trial asked for to the end of the last final, processes of trials
included; `all` from the start of the program, so with its imports, with what is read and prepared,
and with the start of Ray. `processors` are the seconds that its processes computed in that time,
which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.mask_trainer.work import REPEATS, Task, Work, write_images, write_work
from tests.benchmarks.sharing.fresh import STORE
from tests.benchmarks.start import SCAN_S, ProcessTree

DEPTHS = (0.5, 0.75, 1.0)
SIZES: dict[str, tuple[int, tuple[float, ...]]] = {
    "lraspp_mobilenet_v3_large": (18, (3e-4, 3e-3)),
    "fcn_resnet50": (3, (3e-4,)),
}
"""Updates of a fold, and the learning rates of each depth."""

QUICK = "lraspp_mobilenet_v3_large"
TARGET = 2.0
OURS, BASELINE = "ours", "plain"
CONTESTANTS = (OURS, BASELINE)
RESULT = "result: "
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a contestant, or the sum of several.

    Attributes:
        all_s: seconds of its process.
        cpu_s: processor seconds of its process and of all that came of it.
        trials_s: seconds of its trials and finals.
        miou: mean of its trials in validation.
        by_depth: seconds of all trials of a depth, without the start of their processes.
    """

    all_s: float
    cpu_s: float
    trials_s: float
    miou: float
    by_depth: dict[float, float]


def run_ours(path: Path) -> dict[str, Any]:
    """Run the sweep of a work file; see `run_baseline`. The finals' configuration is told, too."""
    from tests.benchmarks.sharing import ours

    work = Work.load(path)
    measured, trials, finals = ours.run_sweep(
        work.space, num_trials=work.task.num_trials, num_finals=REPEATS
    )
    by_depth: dict[float, float] = defaultdict(float)
    for trial in trials:
        by_depth[trial["freeze_depth"]] += trial["duration_s"]
    chosen = next(trial for trial in trials if trial["trial_id"] == finals[0]["trial_id"])
    return {
        "trials_s": measured.seconds,
        "miou": measured.accuracy,
        "by_depth": by_depth,
        "chosen": (chosen["freeze_depth"], chosen["lr"]),
    }


def run_baseline(path: Path) -> dict[str, Any]:
    """Run the trials and finals of a work file; the values of a `Run` that are known inside."""
    from tests.benchmarks.mask_trainer import baseline

    measured, by_depth = baseline.run_trials(path)
    return {"trials_s": measured.seconds, "miou": measured.accuracy, "by_depth": by_depth}


RUNS: dict[str, Callable[[Path], dict[str, Any]]] = {OURS: run_ours, BASELINE: run_baseline}


def run_fresh(name: str, path: Path) -> Run:
    """One run in a new process; the first one of ours tells the work file what it chose.

    Raises:
        RuntimeError: it failed; the message is the end of what it printed.
    """
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as store,
        tempfile.TemporaryFile("w+") as printed,
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.mask_trainer", "--run", name, str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", STORE: store},
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
    chosen = found.pop("chosen", None)
    found["by_depth"] = {float(depth): seconds for depth, seconds in found["by_depth"].items()}
    run = Run(all_s=time.perf_counter() - start, cpu_s=sum(tree.by_process().values()), **found)
    work = Work.load(path)
    if work.chosen is None:
        dataclasses.replace(work, chosen=chosen).save(path)
    print(f"{work.task.backbone}, {name}: {run}, {chosen}", file=sys.stderr, flush=True)
    return run


def take_turns(paths: Iterable[Path], *, rounds: int) -> dict[str, list[list[Run]]]:
    """The runs of each contestant, by work file; every other pair is in reversed order.

    The first pair of a work file is not, because ours chooses what the finals are.
    """
    runs: dict[str, list[list[Run]]] = {name: [] for name in CONTESTANTS}
    for path in paths:
        for name in CONTESTANTS:
            runs[name].append([])
        for number in range(rounds):
            for name in CONTESTANTS[:: 1 if number % 2 == 0 else -1]:
                runs[name][-1].append(run_fresh(name, path))
    return runs


def middle(runs: list[Run]) -> Run:
    """The median of each value."""
    return Run(
        **{
            name: statistics.median(getattr(one, name) for one in runs)
            for name in ("all_s", "cpu_s", "trials_s", "miou")
        },
        by_depth={
            depth: statistics.median(one.by_depth[depth] for one in runs)
            for depth in runs[0].by_depth
        },
    )


def together(runs: list[Run]) -> Run:
    """The sum of the runs of all backbones, and the mean of their scores."""
    return Run(
        all_s=sum(one.all_s for one in runs),
        cpu_s=sum(one.cpu_s for one in runs),
        trials_s=sum(one.trials_s for one in runs),
        miou=statistics.mean(one.miou for one in runs),
        by_depth={depth: sum(one.by_depth[depth] for one in runs) for depth in runs[0].by_depth},
    )


def show(tasks: list[Task], runs: dict[str, list[list[Run]]]) -> None:
    """Print the tables."""
    one = tasks[0]
    print(f"\n3 folds, {one.labels} labelled images, {one.image_size} px:\n")
    rows = [
        (
            f"{task.backbone}, {task.num_trials} trials of {task.steps} updates",
            {name: middle(runs[name][number]) for name in CONTESTANTS},
        )
        for number, task in enumerate(tasks)
    ]
    in_all = {name: together([found[name] for _, found in rows]) for name in CONTESTANTS}
    rows.append(("all backbones", in_all))
    print(
        "| backbone | contestant | trials, s | to ours | target | all, s | to ours "
        "| processors, s | to ours | mean IoU held out |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for title, found in rows:
        for name in CONTESTANTS:
            columns = [title, name]
            for what in ("trials_s", "all_s", "cpu_s"):
                its, ours_s = (getattr(found[who], what) for who in (name, OURS))
                columns += [f"{its:.1f}", f"{its / ours_s:.2f}"]
            asked = found is in_all and name == BASELINE
            columns.insert(4, f"{TARGET:g}" if asked else "")
            print(f"| {' | '.join([*columns, f'{found[name].miou:.1%}'])} |")
    print("\n| backbone | depth | plain, s of trials | ours, s of trials | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for title, found in rows:
        for depth in one.depths:
            ours_s, its_s = (found[name].by_depth[depth] for name in CONTESTANTS)
            print(
                f"| {title.partition(',')[0]} | {depth:g} | {its_s:.1f} | {ours_s:.1f} "
                f"| {its_s / ours_s:.2f} |"
            )
    ratio = in_all[BASELINE].trials_s / in_all[OURS].trials_s
    verdict = "reached" if ratio >= TARGET else "missed"
    print(f"\n{ratio:.2f} times as fast over all; {TARGET:g} is the target: {verdict}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.mask_trainer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbones", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--labels", type=int, default=20, help="labelled images in all")
    parser.add_argument("--image-size", type=int, default=96, help="pixels of the input's side")
    parser.add_argument("--steps", type=int, help="updates of a fold, instead of `SIZES`")
    parser.add_argument("--reports", type=int, default=3, help="evaluations of a trial")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each contestant")
    parser.add_argument("--quick", action="store_true", help="one backbone, two short trials")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        name, path = given.run
        print(RESULT + json.dumps(RUNS[name](Path(path))))
        return
    if given.quick:
        given.backbones, given.image_size, given.steps, given.reports = [QUICK], 32, 2, 1
    tasks = []
    for backbone in given.backbones:
        steps, lrs = SIZES[backbone]
        tasks.append(
            Task(
                backbone=backbone,
                depths=DEPTHS[::2] if given.quick else DEPTHS,
                lrs=lrs[:1] if given.quick else lrs,
                labels=given.labels,
                image_size=given.image_size,
                steps=given.steps or steps,
                reports=given.reports,
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_images(images, pool=80, test=40)
        paths = [write_work(task, images, Path(folder)) for task in tasks]
        show(tasks, take_turns(paths, rounds=given.rounds))


if __name__ == "__main__":
    main()
