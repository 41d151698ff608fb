"""Make the sweep directories of a folder of fixtures anew, for the version that this is.

    python -m tools.make_fixtures tests/fixtures/sweeps-0.2.0
    python -m tools.make_fixtures tests/fixtures/sweeps-0.2.0 --name views

For each search-space file in `FOLDER/spaces` one sweep runs here, and is left beside that folder
under the file's name, without `report.html` and `sweep.log`. The driver of the one called `killed`
is killed amid a trial that has given a report and left a checkpoint. A directory that is there
already is left alone: fixtures of a version that is out are never made again.

The name of the machine is `host` in all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import SweepError
from orchestrator.recording.projection import load_studies
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import read_table, table_path
from orchestrator.recording.user_attributes import trial_id

REPOSITORY = Path(__file__).resolve().parents[1]
KILLED = "killed"
"""The sweep whose driver is killed."""
HOST = "host"
"""What the machine is called in fixtures."""

_LEFT_OUT = shutil.ignore_patterns("report.html", "sweep.log", ".*")
_RENAMING = f"import platform\nplatform.node = lambda: {HOST!r}\n"
_LAUNCH = "import sys; from orchestrator.cli import main; sys.exit(main())"
_POLL_S = 0.02


def make(space: Path, target: Path) -> None:
    """Run one sweep and put its directory in its place.

    Args:
        space: the search-space file.
        target: the place; there must be nothing.

    Raises:
        SystemExit: the sweep failed, or was over before it could be killed.
    """
    with tempfile.TemporaryDirectory(prefix="make-fixtures-") as temporary:
        folder = Path(temporary)
        (folder / "host").mkdir()
        (folder / "host" / "sitecustomize.py").write_text(_RENAMING, encoding="utf-8")
        with subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, "launch", str(space), "--out", str(folder / "runs")],
            cwd=folder,
            env={
                **os.environ,
                # Read at the start of every Python process, the workers of Ray included.
                "PYTHONPATH": os.pathsep.join([str(folder / "host"), str(REPOSITORY)]),
                "SFT_SWEEP_CACHE": str(folder / "cache"),
            },
        ) as driver:
            if target.name == KILLED:
                _kill_amid(driver, folder / "runs")
        expected = -signal.SIGKILL if target.name == KILLED else 0
        if driver.returncode != expected:
            raise SystemExit(f"{space}: exit code {driver.returncode}, expected {expected}")
        (made,) = (folder / "runs").iterdir()
        _check_anonymous(made, folder)
        shutil.copytree(made, target, ignore=_LEFT_OUT)


def _kill_amid(driver: subprocess.Popen[bytes], runs: Path) -> None:
    """Kill a driver as soon as its sweep has all that a fixture is to show."""
    while driver.poll() is None:
        if any(map(_is_amid, runs.glob("*/manifest.json"))):
            driver.kill()
            return
        time.sleep(_POLL_S)


def _is_amid(manifest: Path) -> bool:
    """Whether there is a settled trial, and a running one with a report and a checkpoint.

    A table with rows has to be there, too.
    """
    path = manifest.parent
    saved = {file.stem for file in path.glob("checkpoints/*.checkpoint")}
    try:
        if not saved or not table_path(path, "leaderboard").exists():  # the last one written
            return False
        trials = {
            trial_id(name, trial.number): trial
            for name, study in load_studies(path).items()
            for trial in study.get_trials(deepcopy=False)
        }
        return (
            read_table(path, "trials").num_rows > 0
            and any(trial.state.is_finished() for trial in trials.values())
            and any(
                key in saved and trial.intermediate_values and not trial.state.is_finished()
                for key, trial in trials.items()
            )
        )
    except SweepError:  # read while it was being written
        return False


def _check_anonymous(path: Path, *folders: Path) -> None:
    """Make sure that a sweep names neither this machine nor folders of it.

    Raises:
        SystemExit: it does.
    """
    texts = [(path / name).read_text(encoding="utf-8") for name in ("journal.log", "manifest.json")]
    tables = [read_table(path, name) for name in SCHEMAS]
    hosts = set(read_table(path, "trials")["host"].to_pylist())
    hosts |= {host for text in texts for host in re.findall(r'"host": ?"([^"]*)"', text)}
    hosts |= set(json.loads(texts[1])["hosts"])
    texts += [str(table.to_pydict()) for table in tables]
    named = {str(folder) for folder in (REPOSITORY, *folders)}
    told = sorted({name for name in named for text in texts if name in text} | (hosts - {HOST}))
    if told:
        raise SystemExit(f"{path}: names {', '.join(told)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the folder spaces")
    parser.add_argument(
        "--name", action="append", metavar="NAME", help="of a file in spaces; left out: all"
    )
    given = parser.parse_args(arguments)
    spaces = {file.stem: file.resolve() for file in sorted(given.folder.glob("spaces/*.yaml"))}
    for name in given.name or spaces:
        if name not in spaces:
            parser.error(f"{name}: no file of {given.folder / 'spaces'}: {', '.join(spaces)}")
        target = given.folder / name
        if target.exists():
            print(f"{target}: is there already")
            continue
        make(spaces[name], target)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        print(f"{target}: {size} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
