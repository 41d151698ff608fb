"""Real sweeps through the real command line, small enough for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
LOWDATA = REPOSITORY / "search_spaces" / "lowdata.yaml"
SMALL = (
    "search.label_budget=[2, 5]",
    "trials=6",
    "training.steps=20",
    "training.reports=4",
    "pruner.n_startup_trials=2",
    "finalists={count: 2, repeats: 2}",
)
TIMEOUT_S = 300


@dataclass(frozen=True)
class Launched:
    """A finished `sft-sweep launch --json`."""

    code: int
    path: Path
    output: dict[str, Any]
    messages: str


def command(*arguments: str) -> list[str]:
    """The command line, run by this very interpreter, which looks for modules as a script does."""
    start = "import sys; from orchestrator.cli import main; sys.exit(main())"
    options = ["-P", "-W", "error::DeprecationWarning:orchestrator"]
    return [sys.executable, *options, "-c", start, *arguments]


def finished(arguments: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that ran to its end in a directory."""
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=cwd
    )


def launch(
    out: Path, *overrides: str, space: Path = LOWDATA, folder: Path | None = None
) -> Launched:
    """Run a small variant of a search space to its end, in `folder` or where the tests run."""
    options = [part for override in (*SMALL, *overrides) for part in ("--set", override)]
    done = subprocess.run(
        command("launch", str(space), "--out", str(out), "--json", *options),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.stdout, done.stderr
    output = json.loads(done.stdout)
    return Launched(done.returncode, Path(output["run"]), output, done.stderr)


@pytest.fixture(scope="session")
def launch_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Launched]:
    """Launches a small sweep in a directory of its own."""

    def run(*overrides: str, space: Path = LOWDATA, folder: Path | None = None) -> Launched:
        return launch(tmp_path_factory.mktemp("runs"), *overrides, space=space, folder=folder)

    return run


@pytest.fixture(scope="session")
def small_sweep(launch_in: Callable[..., Launched]) -> Launched:
    """One small TPE sweep, one trial at a time, shared by all tests that only look at it."""
    return launch_in("resources.max_concurrent=1")
