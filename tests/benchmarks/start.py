"""Time that a sweep takes from its command to the first update of the first trial.

    python -m tests.benchmarks.start [--baseline COMMIT] [--runs 5] [--quick] [--delays 50]

This tree and a worktree of the baseline commit take turns to launch one trial of one step with one
report from `search_spaces/lowdata.yaml`, on the idle machine and while two other processes run busy
loops. The first update has been made when the journal has the first report, which both trees write
at once. Processor seconds are those of the command and of all its descendants until then. The first
launch of each tree fills caches and is not counted. A launch of the baseline that has no report
after four minutes counts as four minutes, so that the ratio is an upper bound.

The program prints each launch on stderr as it ends, and a table of medians on stdout.

With `--delays N`, N launches of this tree follow in which reading and the start of Ray, which run
side by side, are delayed at random. Every other one gets a Ctrl-C at a random time. Each launch has
to end with exit code 0 or 130, without leaving a process or a directory without a manifest behind.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.signals import exiting_on_sigterm

TARGET = 0.67
POLL_S = 0.02
SCAN_S = 0.2
TIMEOUT_S = 240
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
REPOSITORY = Path(__file__).parents[2]
FIRST_REPORT = b'"report/0"'
SETTINGS = (
    "search.label_budget=[5]",
    "search.backbone=tiny_strokes",
    "trials=1",
    "training.steps=1",
    "training.reports=1",
    "finalists={count: 1, repeats: 2}",
    "baselines=[]",
    "cache=never",
)
COMMAND = "import sys; from orchestrator.cli import main; sys.exit(main())"
DELAYED = """
import os, random, signal, sys, time
# A Ctrl-C amid the imports of this program, which a launch does elsewhere or later, tells nothing.
signal.signal(signal.SIGINT, lambda *_: os._exit(130))
import ray
from orchestrator.planning import preparation
from orchestrator.running import launch
draw = random.Random(int(sys.argv.pop(1)))
def delay(module, name):
    function = getattr(module, name)
    def later(*args, **kwargs):
        time.sleep(draw.uniform(0, 2))
        return function(*args, **kwargs)
    setattr(module, name, later)
for name in ("_read_images", "make_plan", "load_weights", "_cuts"):
    delay(preparation, name)
delay(launch, "_cluster_with_capacity")
delay(launch, "begin")
delay(ray, "init")
from orchestrator.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
LATEST_INTERRUPT_S = 15.0
GONE_AFTER_S = 60.0
ENDED_AFTER_S = 60.0


@dataclass(frozen=True)
class Start:
    """Times of one launch until its first update.

    Attributes:
        wall_s: seconds of wall-clock time.
        cpu_s: processor seconds of all processes.
        by_process: processor seconds by name of process.
    """

    wall_s: float
    cpu_s: float
    by_process: dict[str, float]


@dataclass
class ProcessTree:
    """Processor seconds of a process and all its descendants, including those that have ended.

    The time that a process used between the last scan and its end is lost.

    Args:
        root: id of the process.
    """

    root: int
    _seen: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)

    def scan(self) -> None:
        """Read the times of all processes of the machine."""
        stats = {stat.pid: stat for stat in map(_read_stat, Path("/proc").glob("[0-9]*")) if stat}
        known = {pid for pid, _ in self._seen} | {self.root}
        for pid, stat in sorted(stats.items(), key=lambda item: item[1].began):
            if stat.parent in known or pid in known:
                known.add(pid)
                self._seen[pid, stat.began] = stat.name, stat.ticks

    @property
    def alive(self) -> dict[int, str]:
        """Names by id of the descendants that have not ended."""
        return {
            pid: stat.name
            for pid, began in self._seen
            if pid != self.root
            and (stat := _read_stat(Path(f"/proc/{pid}"))) is not None
            and stat.began == began
        }

    def by_process(self) -> dict[str, float]:
        """Processor seconds by name of process."""
        found: dict[str, float] = {}
        for name, ticks in self._seen.values():
            found[name] = found.get(name, 0.0) + ticks / TICKS_PER_S
        return found


@dataclass(frozen=True)
class Stat:
    """The kernel's facts about a process; `began` tells it from earlier processes with its id."""

    pid: int
    name: str
    parent: int
    ticks: int
    began: int


def _read_stat(folder: Path) -> Stat | None:
    """The facts about a process; None if it has ended."""
    try:
        text = (folder / "stat").read_text()
        arguments = (folder / "cmdline").read_text().split("\0")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] == "Z":
        return None
    return Stat(
        pid=int(folder.name),
        name=next((Path(each).name for each in arguments if each.endswith(".py")), name),
        parent=int(fields[1]),
        ticks=int(fields[11]) + int(fields[12]),
        began=int(fields[19]),
    )


def launch(tree: Path, out: Path, *command: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a launch with the code of a tree; its output is captured.

    Args:
        tree: root folder of the code.
        out: folder in which sweep directories are made.
        command: arguments for Python before those of the launch.
    """
    out.mkdir(parents=True)
    messages = out / "messages.txt"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    space = tree / "search_spaces" / "lowdata.yaml"
    with messages.open("wb") as sink:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                *(command or (COMMAND,)),
                "launch",
                str(space),
                "--out",
                str(out),
                *options,
            ],
            stdout=sink,
            stderr=sink,
            cwd=out,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )
    return process, messages


def measure(tree: Path, out: Path) -> Start:
    """Launch, wait for the first update, and end the sweep.

    Raises:
        SystemExit: the launch ended, or, if it is one of this tree, had no report in time.
    """
    began = time.monotonic()
    process, messages = launch(tree, out)
    processes = ProcessTree(process.pid)
    next_scan = 0.0
    try:
        while not _has_report(out):
            now = time.monotonic()
            late = now > began + TIMEOUT_S
            if late and tree != REPOSITORY:
                break
            if late or process.poll() is not None:
                raise SystemExit(f"{tree}: no first report:\n{messages.read_text()}")
            if now >= next_scan:
                processes.scan()
                next_scan = now + SCAN_S
            time.sleep(POLL_S)
        wall_s = time.monotonic() - began
        processes.scan()
        by_process = processes.by_process()
    finally:
        _end(process)
    return Start(wall_s, sum(by_process.values()), by_process)


def disturb(out: Path, *, seed: int) -> str | None:
    """Launch with random delays, and with a Ctrl-C if the seed is odd; return what went wrong.

    Args:
        out: folder in which sweep directories are made.
        seed: seed of the delays.

    Returns:
        A description of the problem, or None.
    """
    process, messages = launch(REPOSITORY, out, DELAYED, str(seed))
    try:
        return _end_of(process, messages, out, seed=seed)
    finally:
        _end(process)


def _end_of(
    process: subprocess.Popen[bytes], messages: Path, out: Path, *, seed: int
) -> str | None:
    """Wait for the end of a disturbed launch; return what went wrong, or None."""
    processes = ProcessTree(process.pid)
    interrupt = random.Random(seed).uniform(0, LATEST_INTERRUPT_S) if seed % 2 else math.inf
    until = time.monotonic() + TIMEOUT_S
    interrupt += time.monotonic()
    while process.poll() is None:
        processes.scan()
        if time.monotonic() >= interrupt:
            process.send_signal(signal.SIGINT)
            interrupt = math.inf
        if time.monotonic() > until:
            return f"no end after {TIMEOUT_S} s:\n{messages.read_text()}"
        time.sleep(SCAN_S)
    if process.returncode not in (0, 130):
        return f"exit code {process.returncode}:\n{messages.read_text()}"
    until = time.monotonic() + GONE_AFTER_S
    while processes.alive and time.monotonic() < until:
        time.sleep(SCAN_S)
    if processes.alive:
        return f"processes left behind: {processes.alive}"
    halves = [each for each in out.glob("*/") if not (each / "manifest.json").is_file()]
    return f"no manifest in {halves}" if halves else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a launch and its cluster; signals to this process wait until that is done."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDED_AFTER_S)


def _has_report(out: Path) -> bool:
    return any(FIRST_REPORT in journal.read_bytes() for journal in out.glob("*/journal.log"))


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run `count` busy loops during the block, in processes that end after an hour at most."""
    loop = "import time\nend = time.monotonic() + 3600\nwhile time.monotonic() < end: pass"
    loops = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(count)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check out a commit into a folder for the duration of the block."""
    path = folder / "baseline"
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
    try:
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--baseline", default="HEAD~1", metavar="COMMIT")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run of each, idle only")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="busy loops beside it")
    parser.add_argument("--processes", action="store_true", help="show who used the processors")
    parser.add_argument("--delays", type=int, default=0, metavar="N", help="disturbed launches")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    print("| machine | tree | to the first update, s | ratio | processor, s | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with exiting_on_sigterm(), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with worktree(options.baseline, folder) as baseline:
            trees = {options.baseline: baseline, "this tree": REPOSITORY}
            for loops in [0] if options.quick else options.busy:
                with busy_loops(loops):
                    found = in_turn(trees, runs=runs, out=folder / f"runs-{loops}")
                name = f"{loops} busy loops" if loops else "idle"
                _print_rows(name, found, processes=options.processes)
        wrong = {
            seed: disturb(folder / f"delays-{seed}", seed=seed) for seed in range(options.delays)
        }
    print(f"\nTarget: ratios of at most {TARGET}")
    if wrong:
        told = [f"{seed}: {what}" for seed, what in wrong.items() if what is not None]
        print(f"{len(wrong)} disturbed launches, {len(told)} of which went wrong", *told, sep="\n")


def in_turn(trees: dict[str, Path], *, runs: int, out: Path) -> dict[str, list[Start]]:
    """Launch each tree `runs` times, in turn, after one launch that is not counted."""
    found: dict[str, list[Start]] = {name: [] for name in trees}
    for number in range(runs + 1):
        for place, (name, tree) in enumerate(trees.items()):
            start = measure(tree, out / f"{place}-{number}")
            print(
                f"{out.name}, {name}: {f'{number} of {runs}' if number else 'not counted'}: "
                f"{start.wall_s:.1f} s, {start.cpu_s:.1f} s of processors",
                file=sys.stderr,
                flush=True,
            )
            if number:
                found[name].append(start)
    return found


def _print_rows(machine: str, found: dict[str, list[Start]], *, processes: bool) -> None:
    wall = {name: statistics.median(one.wall_s for one in all_) for name, all_ in found.items()}
    cpu = {name: statistics.median(one.cpu_s for one in all_) for name, all_ in found.items()}
    first = next(iter(found))
    for name in found:
        print(
            f"| {machine} | {name} | {wall[name]:.1f} | {wall[name] / wall[first]:.2f} | "
            f"{cpu[name]:.1f} | {cpu[name] / cpu[first]:.2f} |",
            flush=True,
        )
        if processes:
            shares = found[name][-1].by_process
            told = sorted(shares.items(), key=lambda item: -item[1])
            print(", ".join(f"{who} {seconds:.1f}" for who, seconds in told if seconds >= 0.1))


if __name__ == "__main__":
    main()
