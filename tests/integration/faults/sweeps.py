"""Real sweeps that something happens to: started, watched, hit, resumed, and compared."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.recording.projection import load_studies
from orchestrator.recording.table_schemas import KEYS
from orchestrator.recording.tables import read_table
from tests.integration.conftest import LOWDATA, TIMEOUT_S, command

OVERRIDES = (
    "search.backbone=tiny_strokes",
    "search.label_budget=[2, 3]",
    "search.layer_decay=1.0",
    "trials=4",
    "training={steps: 30, reports: 3}",
    "sampler={name: random}",
    "pruner={name: none}",
    "finalists={count: 1, repeats: 2}",
    "baselines=[probe]",
    "resources={max_concurrent: 1}",  # a process less to start, in each of many sweeps
)
"""Random trials without a pruner come to the same, whatever the order and the number of slots."""

ALL_SLOTS = "resources={}"
"""An override for sweeps on several machines."""

RESULTS = {
    "trials": ("trial_id", "state", "failure", "params", "steps", "reports", "val_loss"),
    "curves": ("trial_id", "report", "step", "val_loss", "train_loss"),
    "finals": ("trial_id", "repeat", "test_accuracy", "test_loss"),
    "leaderboard": ("study", "rank", "trial_id", "val_objective", "test_accuracy"),
}
"""Columns that say what came out, and nothing of how long it took or where it ran."""


@dataclass
class Sweep:
    """One `sft-sweep` command of a sweep, running in a process of its own.

    Attributes:
        process: of the command.
        out: where the sweep's directory is made.
        printed: on stdout, once it has ended.
    """

    process: subprocess.Popen[str]
    out: Path
    printed: str = ""

    @property
    def path(self) -> Path:
        """The sweep's directory, once it is there."""
        (path,) = self.out.iterdir()
        return path

    def wait_until(self, condition: Callable[[Path], bool]) -> None:
        """Wait until something is true of the sweep's directory."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            paths = list(self.out.iterdir())
            if paths and (paths[0] / "journal.log").is_file() and condition(paths[0]):
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)
        raise AssertionError("it did not come to that")

    def workers(self) -> list[int]:
        """Process ids of those that do trials at this moment."""
        names = ("Trainable", "FineTuneActor")  # amid a call, and between two
        return [
            pid
            for pid in descendants(self.process.pid)
            if any(name in name_of(pid) for name in names)
        ]

    def end(self, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """Wait for the end; the exit code and the messages."""
        self.printed, messages = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, messages

    def kill(self) -> None:
        """Kill the driver; its cluster follows by itself."""
        self.process.kill()
        self.process.communicate(timeout=60)


def start(
    out: Path,
    *overrides: str,
    space: Path = LOWDATA,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    cwd: Path | None = None,
) -> Sweep:
    """Launch a small sweep in a directory that is empty."""
    given = [part for override in (*OVERRIDES, *overrides) for part in ("--set", override)]
    arguments = ("launch", str(space), "--out", str(out), *options, *given)
    out.mkdir(exist_ok=True)
    return Sweep(_run(arguments, env, cwd), out)


def start_resume(path: Path, *options: str, env: Mapping[str, str] | None = None) -> Sweep:
    """Take up a sweep."""
    return Sweep(_run(("resume", str(path), *options), env, None), path.parent)


def resume(path: Path, *options: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Resume a sweep to its end; the exit code and the messages."""
    return start_resume(path, *options, env=env).end()


def results(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What came out of a sweep, by table; every key is there once."""
    found = {}
    for name, columns in RESULTS.items():
        table = read_table(path, name)
        keys = [tuple(row.values()) for row in table.select(KEYS[name]).to_pylist()]
        assert len(keys) == len(set(keys)), f"{name}: a key is there twice"
        found[name] = table.select(columns).to_pylist()
    return found


def settled(path: Path) -> int:
    """Trials of a sweep that are over."""
    return sum(
        trial.state.is_finished()
        for study in load_studies(path).values()
        for trial in study.get_trials(deepcopy=False)
    )


def runs_of(path: Path) -> dict[str, dict[str, Any]]:
    """How the last attempt of each trial went, by trial id."""
    return {
        f"{name}-{trial.number:04d}": trial.user_attrs["run"]
        for name, study in load_studies(path).items()
        for trial in study.get_trials(deepcopy=False)
    }


def descendants(pid: int) -> list[int]:
    """Processes that one has started, and those that they have, in ascending order."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
            except OSError:
                continue  # it has just ended
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def name_of(pid: int) -> str:
    """The command line of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill(pids: list[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to processes that may have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _run(
    arguments: tuple[str, ...], env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
