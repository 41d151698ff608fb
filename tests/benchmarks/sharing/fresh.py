"""Runs of contestants, each in a process of its own: `python -m tests.benchmarks.sharing.fresh`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.sharing import expert, ours, plain
from tests.benchmarks.sharing.clock import Measured

STORE = "SFT_SWEEP_CACHE"
"""The environment variable with the folder of sft-sweep's feature store."""

RUNS: dict[str, Callable[[Path], Measured]] = {
    "plain": plain.run_trials,
    "expert": expert.run_trials,
    "ours": ours.run_trials,
    "plain protocol": plain.run_protocol,
    "ours protocol": ours.run_protocol,
}


def run_fresh(name: str, path: Path, *, store: Path | None = None) -> Measured:
    """Run a contestant in a new process.

    Args:
        name: a key of `RUNS`.
        path: path of the work file.
        store: folder of the feature store; None for an empty one.

    Raises:
        RuntimeError: the run failed; the message is the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(__file__).parents[3]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.sharing.fresh", name, str(path)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), STORE: str(store or folder)},
            capture_output=True,
            text=True,
        )
    if ended.returncode:
        raise RuntimeError(f"{name}:\n{(ended.stdout + ended.stderr)[-4000:]}")
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))


def main() -> None:
    """Run the contestant that the arguments name, and print its measurements as JSON."""
    name, path = sys.argv[1:]
    print(json.dumps(dataclasses.asdict(RUNS[name](Path(path)))))


if __name__ == "__main__":
    main()
