"""Sweeps for reading: the tables of one or several, running or finished, old or new.

Only this module rebuilds missing or damaged tables from the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording.journal import kept_idle
from orchestrator.recording.journal_format import reading_contents
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.projection import Projection, load_studies
from orchestrator.recording.stores import Place, locate
from orchestrator.recording.sweep_directory import Run, find_run
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import conform, read_table, table_path, write_table
from trainable.spec.metrics import Metric

if TYPE_CHECKING:
    import pandas as pd


_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True)
class LoadedRun:
    """One sweep for reading: its identity, and its tables, each read on first access.

    A missing or damaged table is rebuilt from the journal; its file is rewritten if no process runs
    the sweep. Without a journal, a missing table is empty. A column that an older version did not
    write is null; a leaderboard of 0.1.0, which did not rank probes, is rebuilt from the other
    tables. Tables are cached; load the sweep again to see its progress.

    Attributes:
        path: path of the sweep directory.
        sweep_id: the id in its rows.
        manifest: versions, fingerprints and hosts.
    """

    path: Path
    sweep_id: str
    manifest: dict[str, Any] = field(repr=False)
    _made_again: dict[str, pa.Table] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def trials(self) -> pa.Table:
        """One row per settled trial or baseline."""
        return self.read("trials")

    @cached_property
    def curves(self) -> pa.Table:
        """One row per report of a trial."""
        return self.read("curves")

    @cached_property
    def finals(self) -> pa.Table:
        """One row per finalist or baseline and repeat: test scores."""
        return self.read("finals")

    @cached_property
    def predictions(self) -> pa.Table:
        """One row per finalist or baseline, repeat and test image."""
        return self.read("predictions")

    @cached_property
    def leaderboard(self) -> pa.Table:
        """One row per distinct configuration and budget, best first."""
        return self.read("leaderboard")

    def table(self, name: str) -> pa.Table:
        """Return the table of this name.

        Raises:
            UsageError: there is none of this name.
            StorageError: its file cannot be read or is damaged.
        """
        if name not in SCHEMAS:
            raise UsageError(f"{name}: no such table; allowed: {', '.join(SCHEMAS)}")
        return getattr(self, name)

    def read(self, name: str, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table without caching it.

        Args:
            name: a key of `SCHEMAS`.
            columns: columns to read; None for all of them.

        Raises:
            StorageError: its file cannot be read or is damaged, and it cannot be rebuilt.
        """
        if not self._made_again:
            path = table_path(self.path, name)
            problem = None
            try:
                if path.exists():
                    return self._read(name, columns)
            except StorageError as error:
                problem = error
            self._made_again.update(_make_again(self, name, problem))
        table = self._made_again.get(name, SCHEMAS[name].empty_table())
        return table if columns is None else table.select(columns)

    def _read(self, name: str, columns: Sequence[str] | None) -> pa.Table:
        """Read a table from its file; a leaderboard of 0.1.0 is rebuilt by current rules."""
        if name != "leaderboard":
            return read_table(self.path, name, columns=columns)
        table = read_table(self.path, name)
        if table["metric"].null_count:
            table = self._build_anew(table)
        return table if columns is None else table.select(columns)

    def _build_anew(self, old: pa.Table) -> pa.Table:
        """Rebuild a leaderboard of 0.1.0 by current rules if the trials allow it.

        Otherwise its test scores are those of accuracy, whatever the objective.
        """
        if self.trials.num_rows and not self.trials["objective"].null_count:
            rows = build_leaderboard(self.trials, self.finals, self.predictions)
        else:
            rows = [
                row | {"metric": Metric.ACCURACY.value, "test_score": row["test_accuracy"]}
                for row in old.to_pylist()
            ]
        return conform("leaderboard", rows)

    def to_pandas(self, name: str) -> pd.DataFrame:
        """Return the table of this name as a DataFrame.

        Integers and booleans have pandas' nullable types, so that they stay integers and booleans
        beside missing values, such as the rank of raw pixels.

        Raises:
            UsageError: there is none of this name.
            StorageError: its file cannot be read or is damaged.
        """
        import pandas as pd

        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        return self.table(name).to_pandas(types_mapper=nullable.get)


def load_run(path: str | Path | None = None) -> LoadedRun:
    """Load one sweep for reading.

        run = orchestrator.load_run("runs/lowdata-20260131-142530")
        run.trials                      # a pyarrow.Table
        run.to_pandas("leaderboard")    # a pandas.DataFrame

    Args:
        path: a sweep directory or its URL in a store; None for the newest in `runs/`.

    Raises:
        UsageError: there is no sweep.
        StorageError: the store cannot be read.
    """
    return _load(find_run(path))


def load_runs(paths: Sequence[str | Path]) -> list[LoadedRun]:
    """Load several sweeps for reading; one that is named twice is loaded once.

    Args:
        paths: sweep directories or their URLs; if empty, the newest in `runs/`.

    Raises:
        UsageError: one is not a sweep, or two are copies of one, whose rows would count twice.
        StorageError: a store cannot be read.
    """
    distinct: dict[Path | Place, Path | Place] = {}
    for place in map(locate, paths):
        distinct.setdefault(place.resolve() if isinstance(place, Path) else place, place)
    runs = [load_run(_text(place)) for place in distinct.values()] or [load_run()]
    by_id: dict[str, LoadedRun] = {}
    for run in runs:
        twin = by_id.setdefault(run.sweep_id, run)
        if twin is not run:
            raise UsageError(
                f"{run.path}: the same sweep as {twin.path}, {run.sweep_id}; give one of them"
            )
    return runs


def _text(place: Path | Place) -> str | Path:
    return place if isinstance(place, Path) else str(place)


def _load(run: Run) -> LoadedRun:
    manifest = run.read_manifest()
    if "sweep_id" not in manifest:
        raise UsageError(f"{run.manifest}: not a manifest (sweep_id is missing)")
    return LoadedRun(run.path, str(manifest["sweep_id"]), manifest)


def _make_again(run: LoadedRun, name: str, problem: StorageError | None) -> dict[str, pa.Table]:
    """Rebuild all tables of a sweep from its journal; empty if nothing has settled.

    Their files are rewritten, too, if no process runs the sweep and they are writable.

    Args:
        run: the sweep.
        name: name of the requested table.
        problem: why its file is not usable; None if it is missing.

    Raises:
        StorageError: there is a problem, and the table cannot be rebuilt.
    """
    journal = Run(run.path).journal
    if not journal.is_file():
        if problem is not None:
            raise StorageError(f"{problem}, and there is no journal to make it again from")
        return {}
    told = problem or f"{table_path(run.path, name)}: the file is missing"
    try:
        # The lock keeps trials from settling between reading and writing.
        with kept_idle(journal) as idle, reading_contents(journal):
            tables = Projection(run.sweep_id, load_studies(run.path)).tables()
            if not tables["trials"].num_rows:
                if problem is not None:
                    raise StorageError("it holds nothing that has settled")
                return {}
            written = idle and _write(run.path, tables)
    except (StorageError, OSError) as error:
        raise StorageError(f"{told}. It cannot be made again from the journal: {error}") from error
    # A running sweep writes its tables only after the first few seconds.
    if problem is not None or (idle and tables[name].num_rows):
        _log.warning(
            "%s; made again from the journal%s", told, "" if written else ", for this once"
        )
    return tables


def _write(directory: Path, tables: Mapping[str, pa.Table]) -> bool:
    """Write tables to their files; return whether that succeeded."""
    try:
        for name, table in tables.items():
            write_table(directory, name, table)
    except StorageError:
        return False
    return True
