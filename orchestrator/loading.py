"""Sweeps as they are read: the tables of one or several, running or finished, old or new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.errors import UsageError
from orchestrator.runs import Run, find_run
from orchestrator.tables import SCHEMAS, read_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedRun:
    """One sweep for reading: what it is, and its tables, each read when it is first asked for.

    A table that the sweep has not written yet has no rows, and a column that an older version of
    the tool did not write is null. What was read once stays as it was; load the sweep again to see
    how far it has come.

    Attributes:
        path: of the sweep directory.
        sweep_id: that its rows carry.
        manifest: versions, fingerprints and hosts.
    """

    path: Path
    sweep_id: str
    manifest: dict[str, Any] = field(repr=False)

    @cached_property
    def trials(self) -> pa.Table:
        """One row a settled trial or baseline."""
        return read_table(self.path, "trials")

    @cached_property
    def curves(self) -> pa.Table:
        """One row a report of a trial."""
        return read_table(self.path, "curves")

    @cached_property
    def finals(self) -> pa.Table:
        """One row a finalist or baseline and repeat: test scores."""
        return read_table(self.path, "finals")

    @cached_property
    def predictions(self) -> pa.Table:
        """One row a finalist or baseline, repeat and test image."""
        return read_table(self.path, "predictions")

    @cached_property
    def leaderboard(self) -> pa.Table:
        """One row a distinct configuration and budget, best first."""
        return read_table(self.path, "leaderboard")

    def table(self, name: str) -> pa.Table:
        """The table of this name.

        Raises:
            UsageError: there is none of this name.
            StorageError: its file cannot be read or is damaged.
        """
        if name not in SCHEMAS:
            raise UsageError(f"{name}: no such table; allowed: {', '.join(SCHEMAS)}")
        return getattr(self, name)

    def to_pandas(self, name: str) -> pd.DataFrame:
        """The table of this name as a DataFrame.

        Whole numbers and flags are of pandas' nullable types, so that the rank of a baseline, which
        has none, is missing and the ranks of the others stay whole.

        Raises:
            UsageError: there is none of this name.
            StorageError: its file cannot be read or is damaged.
        """
        import pandas as pd

        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        return self.table(name).to_pandas(types_mapper=nullable.get)


def load_run(path: str | Path | None = None) -> LoadedRun:
    """One sweep for reading.

        run = orchestrator.load_run("runs/lowdata-20260131-142530")
        run.trials                      # a pyarrow.Table
        run.to_pandas("leaderboard")    # a pandas.DataFrame

    Args:
        path: a sweep directory; left out, the newest in `runs/`.

    Raises:
        UsageError: there is no sweep.
    """
    return _load(find_run(None if path is None else Path(path)))


def load_runs(paths: Sequence[Path]) -> list[LoadedRun]:
    """Several sweeps for reading, each once however often it is named.

    Args:
        paths: sweep directories; where there are none, the newest in `runs/`.

    Raises:
        UsageError: one is no sweep, or two hold the same one, whose rows would count twice.
    """
    distinct: dict[Path, Path] = {}
    for path in paths:
        distinct.setdefault(path.resolve(), path)
    runs = [load_run(path) for path in distinct.values()] or [load_run()]
    by_id: dict[str, LoadedRun] = {}
    for run in runs:
        twin = by_id.setdefault(run.sweep_id, run)
        if twin is not run:
            raise UsageError(
                f"{run.path}: the same sweep as {twin.path}, {run.sweep_id}; give one of them"
            )
    return runs


def _load(run: Run) -> LoadedRun:
    manifest = run.read_manifest()
    if "sweep_id" not in manifest:
        raise UsageError(f"{run.manifest}: not a manifest (sweep_id is missing)")
    return LoadedRun(run.path, str(manifest["sweep_id"]), manifest)
