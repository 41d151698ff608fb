"""Run the same small sweeps with two commits of this repository, and compare what they compute.

    python tools/compare_commits.py main HEAD
    python tools/compare_commits.py HEAD~3 HEAD --case tpe --case views
    python tools/compare_commits.py HEAD~20 HEAD --tolerance 1e-6

Floats differ between processors, so that no file of expected scores would hold everywhere. Here
both commits run on one machine, one after the other, each in a worktree and with a cache of its
own; both are removed at the end. Their tables are compared row by row and column by column, floats
to the bit. What depends on time, memory or the name of the sweep is left out; `LEFT_OUT` says why.
A column that one commit alone has is listed and is no difference.

Exit codes: 0 where all tables are equal, 1 where some differ or a sweep did not run, 2 where a
commit or a case has a wrong name.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq

from orchestrator.recording.table_schemas import KEYS

Row = dict[str, Any]
Key = tuple[Any, ...]

REPOSITORY = Path(__file__).resolve().parents[1]

BASE: Mapping[str, Any] = {
    "dataset": {"source": "digits"},
    "search": {
        "backbone": ["tiny_strokes", "tiny_fractals"],
        "freeze_depth": [0.0, 0.5, 1.0],
        "lr": {"low": 0.001, "high": 0.03, "log": True},
        "label_budget": [2, 5],
    },
    "training": {"steps": 20, "reports": 4},
    "validation": {"folds": 2},
    "objective": {"metric": "accuracy"},
    "trials": 6,
    "sampler": {"name": "tpe", "n_startup_trials": 3},
    "pruner": {"name": "median", "n_startup_trials": 2},
    "finalists": {"count": 2, "repeats": 2},
    "baselines": ["pixels", "probe"],
    "resources": {"max_concurrent": 1},
    "seed": 0,
}
"""What all cases share. One trial at a time, so that each ask rests on the same history."""

CASES: Mapping[str, Mapping[str, Any]] = {
    "tpe": {},
    "random": {
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "validation": {"holdout": 0.25},
        "seed": 1,
    },
    "totals": {
        "search": {
            **BASE["search"],
            "freeze_depth": [0.5, 1.0],
            "label_budget": [{"total": 40}, "all"],
        },
        "trials": 3,
    },
    "views": {
        "augment": {"ops": ["rotation", "resized_crop"], "views": 2},
        "search": {**BASE["search"], "label_budget": [3]},
    },
    "log_loss": {
        "objective": {"metric": "log_loss"},
        "pruner": {"name": "successive_halving", "min_resource": 1, "reduction_factor": 2},
        "training": {"steps": 20, "reports": 4, "optimizer": "sgd", "layer_decay": 0.8},
    },
}
"""Search spaces by the name of their case, as far as they differ from `BASE`."""

LEFT_OUT: Mapping[str, str] = {
    "sweep_id": "names the directory, after the time of the launch",
    "started_at": "time",
    "finished_at": "time",
    "duration_s": "time",
    "setup_s": "time",
    "features_s": "time",
    "train_s": "time",
    "elapsed_s": "time",
    "peak_memory_bytes": "memory",
    "host": "names the machine",
    "cache_hits": "what is kept depends on measured speeds",
    "cache_misses": "what is kept depends on measured speeds",
    "schema_version": "says which columns there are",
}
"""Columns that are not compared, and the reason."""

JSON_COLUMNS = ("params", "spec")
"""Columns that hold JSON; each of its keys is compared as a column of its own."""

MOST_SHOWN = 5
"""Differences of one table that are printed."""
END_S = 60.0
"""How long an interrupted sweep may take to end, in seconds."""

_LAUNCH = """
import sys
from pathlib import Path
import orchestrator
worktree = Path(sys.argv.pop(1))
if not Path(orchestrator.__file__).is_relative_to(worktree):
    sys.exit(f"{orchestrator.__file__}: not the code of {worktree}")
from orchestrator.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Difference:
    """One value that the commits do not agree on.

    Attributes:
        key: of the row, without the sweep's id.
        column: its name; `row` where one commit alone has the row.
        values: what each commit has.
    """

    key: Key
    column: str
    values: tuple[Any, Any]

    def __str__(self) -> str:
        before, after = map(repr, self.values)
        return f"{'/'.join(map(str, self.key))}: {self.column}: {before} | {after}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table of two sweeps.

    Attributes:
        rows: that each has.
        differences: in the order of rows and columns.
        only: columns that each alone has.
    """

    rows: tuple[int, int]
    differences: tuple[Difference, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]


class SweepFailedError(Exception):
    """A sweep ended without tables."""


def compare(
    before: Sequence[Row], after: Sequence[Row], *, keys: Sequence[str], tolerance: float = 0.0
) -> Comparison:
    """Compare the rows of one table, found by their keys.

    Args:
        before: rows of the first commit.
        after: rows of the second one.
        keys: columns that identify a row; those left out are no part of it.
        tolerance: relative and absolute, of floats; 0 compares them to the bit.
    """
    keys = [key for key in keys if key not in LEFT_OUT]
    sides = [_by_key(map(_spread, rows), keys) for rows in (before, after)]
    columns = [list(dict.fromkeys(c for row in side.values() for c in row)) for side in sides]
    shared = [c for c in columns[0] if c in columns[1] and c not in LEFT_OUT and c not in keys]
    differences: list[Difference] = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        if not all(key in side for side in sides):
            there = tuple("there" if key in side else "missing" for side in sides)
            differences.append(Difference(key, "row", (there[0], there[1])))
            continue
        for column in shared:
            values = (sides[0][key].get(column), sides[1][key].get(column))
            if not _equal(*values, tolerance=tolerance):
                differences.append(Difference(key, column, values))
    return Comparison(
        rows=(len(before), len(after)),
        differences=tuple(differences),
        only=(
            tuple(c for c in columns[0] if c not in columns[1]),
            tuple(c for c in columns[1] if c not in columns[0]),
        )
        if before and after
        else ((), ()),
    )


def _by_key(rows: Iterator[Row], keys: Sequence[str]) -> dict[Key, Row]:
    return {tuple(row[key] for key in keys): row for row in rows}


def _spread(row: Row) -> Row:
    """The row with a column for each key of its JSON, such as `spec.lr`."""
    spread: Row = {}
    for column, value in row.items():
        if column in JSON_COLUMNS and value is not None:
            spread |= {f"{column}.{key}": inner for key, inner in json.loads(value).items()}
        else:
            spread[column] = value
    return spread


def _equal(before: Any, after: Any, *, tolerance: float) -> bool:
    if not (isinstance(before, float) and isinstance(after, float)):
        return type(before) is type(after) and bool(before == after)
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) and math.isnan(after)
    if tolerance:
        return math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance)
    return struct.pack("d", before) == struct.pack("d", after)


def commit_id(name: str) -> str | None:
    """The full id of a commit, or None where there is none of this name."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else None


@contextmanager
def worktree(commit: str, path: Path) -> Iterator[Path]:
    """The files of a commit in a folder of their own, removed at the end."""
    done = _git("worktree", "add", "--detach", str(path), commit)
    try:
        if done.returncode:
            raise SystemExit(f"git worktree add {path}: {done.stderr.strip()}")
        yield path
    finally:
        _git("worktree", "remove", "--force", str(path))


def run_sweep(code: Path, space: Mapping[str, Any], folder: Path) -> Path:
    """Run a sweep to its end with the code of a worktree; return its directory.

    Args:
        code: the worktree.
        space: of the search-space file.
        folder: to be made, for the file, the sweep and its cache.

    Raises:
        SweepFailedError: it ended without a sweep directory; the message says how.
    """
    folder.mkdir(parents=True)
    file = folder / "space.yaml"
    file.write_text(json.dumps(space), encoding="utf-8")  # JSON is YAML
    arguments = [str(code), "launch", str(file), "--out", str(folder), "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SFT_SWEEP_CACHE": str(folder / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it from here alone, once
    ) as process:
        try:
            told, messages = process.communicate()
        except BaseException:
            _end(process)
            raise
    try:
        return Path(json.loads(told)["run"])
    except (ValueError, KeyError):
        last = (messages.strip() or told.strip()).splitlines()[-3:]
        raise SweepFailedError(f"exit code {process.returncode}: {' / '.join(last)}") from None


def _end(process: subprocess.Popen[str]) -> None:
    """Let a sweep end itself, and Ray with it; kill what takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def compare_case(
    name: str, code: Sequence[Path], folder: Path, *, tolerance: float
) -> dict[str, Comparison]:
    """Run one case with two worktrees and compare all tables, by name.

    Raises:
        SweepFailedError: one of them ended without tables.
    """
    space = {"name": name.replace("_", "-"), **BASE, **CASES[name]}
    sweeps = []
    for side, tree in zip("AB", code, strict=True):
        try:
            sweeps.append(run_sweep(tree, space, folder / side / name))
        except SweepFailedError as error:
            raise SweepFailedError(f"{side}: {error}") from None
    found = {}
    for table, keys in KEYS.items():
        rows = [pq.read_table(sweep / f"{table}.parquet").to_pylist() for sweep in sweeps]
        found[table] = compare(rows[0], rows[1], keys=keys, tolerance=tolerance)
    return found


def lines_of(case: str, tables: Mapping[str, Comparison]) -> Iterator[str]:
    """What is printed of a case: a line a table, and under it what differs."""
    for table, found in tables.items():
        count = len(found.differences)
        result = f"different ({count} differences)" if count else "equal"
        yield _line(case, table, f"{found.rows[0]}/{found.rows[1]}", result)
        yield from (f"    {difference}" for difference in found.differences[:MOST_SHOWN])
        if count > MOST_SHOWN:
            yield f"    and {count - MOST_SHOWN} more"
        for side, only in zip("AB", found.only, strict=True):
            if only:
                yield f"    only {side} has: {', '.join(only)}"


def _line(case: str, table: str, rows: str, result: str) -> str:
    return f"{case:<10}{table:<14}{rows:<14}{result}".rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two commits as the command line asks; see the module."""
    parser = _parser()
    given = parser.parse_args(arguments)
    names = (given.before, given.after)
    commits = [commit_id(name) for name in names]
    for name, commit in zip(names, commits, strict=True):
        if commit is None:
            parser.error(f"{name}: no commit of {REPOSITORY}; see: git log --oneline")
    equal = True
    try:
        with (
            tempfile.TemporaryDirectory(prefix="compare-commits-") as temporary,
            worktree(str(commits[0]), Path(temporary) / "code-a") as first,
            worktree(str(commits[1]), Path(temporary) / "code-b") as second,
        ):
            for side, name, commit in zip("AB", names, commits, strict=True):
                print(f"{side}: {name} ({str(commit)[:12]})")
            print(_line("case", "table", "rows A/B", "result"), flush=True)
            for case in dict.fromkeys(given.case or CASES):
                try:
                    tables = compare_case(
                        case, (first, second), Path(temporary), tolerance=given.tolerance
                    )
                except SweepFailedError as error:
                    equal = False
                    print(_line(case, "-", "-", f"no tables of {error}"), flush=True)
                    continue
                equal &= not any(found.differences for found in tables.values())
                print("\n".join(lines_of(case, tables)), flush=True)
    except KeyboardInterrupt:
        print("interrupted; worktrees and sweeps are removed", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0 if equal else 1


def _raise_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", metavar="A", help="a commit: an id, a branch, a tag, HEAD~1")
    parser.add_argument("after", metavar="B", help="the commit to compare it with")
    parser.add_argument(
        "--case",
        action="append",
        choices=CASES,
        metavar="NAME",
        help=f"one of {', '.join(CASES)}; may be given several times; left out, all of them",
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.0,
        metavar="T",
        help="relative and absolute, of floats; 0, the default, compares them to the bit",
    )
    return parser


def _tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: 0 or more")
    return value


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _raise_interrupt)
    sys.exit(main())
