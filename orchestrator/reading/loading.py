"""Sweeps as they are read: the tables of one or several, running or finished, old or new.

This is the one place where a table that is missing or damaged is made again from the journal.
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
from trainable.spec.trial_spec import Metric

if TYPE_CHECKING:
    import pandas as pd


_log = logging.getLogger("sft_sweep")


@dataclass(frozen=True)
class LoadedRun:
    """One sweep for reading: what it is, and its tables, each read when it is first asked for.

    A table that is missing or damaged is made again from the journal, in its place too where nobody
    runs the sweep; where there is no journal, a missing table has no rows. A column that an older
    version of the tool did not write is null; a leaderboard of 0.1.0, which ranked no probes, is
    built again from the other tables. What was read once stays as it was; load the sweep
    again to see how far it has come.

    Attributes:
        path: of the sweep directory.
        sweep_id: that its rows carry.
        manifest: versions, fingerprints and hosts.
    """

    path: Path
    sweep_id: str
    manifest: dict[str, Any] = field(repr=False)
    _made_again: dict[str, pa.Table] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def trials(self) -> pa.Table:
        """One row a settled trial or baseline."""
        return self.read("trials")

    @cached_property
    def curves(self) -> pa.Table:
        """One row a report of a trial."""
        return self.read("curves")

    @cached_property
    def finals(self) -> pa.Table:
        """One row a finalist or baseline and repeat: test scores."""
        return self.read("finals")

    @cached_property
    def predictions(self) -> pa.Table:
        """One row a finalist or baseline, repeat and test image."""
        return self.read("predictions")

    @cached_property
    def leaderboard(self) -> pa.Table:
        """One row a distinct configuration and budget, best first."""
        return self.read("leaderboard")

    def table(self, name: str) -> pa.Table:
        """The table of this name.

        Raises:
            UsageError: there is none of this name.
            StorageError: its file cannot be read or is damaged.
        """
        if name not in SCHEMAS:
            raise UsageError(f"{name}: no such table; allowed: {', '.join(SCHEMAS)}")
        return getattr(self, name)

    def read(self, name: str, *, columns: Sequence[str] | None = None) -> pa.Table:
        """A table, read now and not kept.

        Args:
            name: a key of `SCHEMAS`.
            columns: to be read; left out, all of them.

        Raises:
            StorageError: its file cannot be read or is damaged, and so is the journal.
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
        """A table from its file, a leaderboard by the rules of this version."""
        if name != "leaderboard":
            return read_table(self.path, name, columns=columns)
        table = read_table(self.path, name)
        if table["metric"].null_count:
            table = self._build_anew(table)
        return table if columns is None else table.select(columns)

    def _build_anew(self, old: pa.Table) -> pa.Table:
        """A leaderboard of 0.1.0 by the rules of this version, as far as there are trials for it.

        Its own test scores and intervals are those of accuracy, whatever the objective.
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
        path: a sweep directory or its URL in a store; left out, the newest in `runs/`.

    Raises:
        UsageError: there is no sweep.
        StorageError: the store cannot be read.
    """
    return _load(find_run(path))


def load_runs(paths: Sequence[str | Path]) -> list[LoadedRun]:
    """Several sweeps for reading, each once however often it is named.

    Args:
        paths: sweep directories or their URLs; where there are none, the newest in `runs/`.

    Raises:
        UsageError: one is no sweep, or two hold the same one, whose rows would count twice.
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
    """All tables of a sweep from its journal; none where nothing has settled yet.

    They are put into their files, too, where nobody runs the sweep and they can be written.

    Args:
        run: the sweep.
        name: of the table that was asked for.
        problem: why its file cannot be used; None where it is missing.

    Raises:
        StorageError: there is a problem, and nothing to make the table from.
    """
    journal = Run(run.path).journal
    if not journal.is_file():
        if problem is not None:
            raise StorageError(f"{problem}, and there is no journal to make it again from")
        return {}
    told = problem or f"{table_path(run.path, name)}: the file is missing"
    try:
        # Idle, so that nothing settles between reading and writing.
        with kept_idle(journal) as idle, reading_contents(journal):
            tables = Projection(run.sweep_id, load_studies(run.path)).tables()
            if not tables["trials"].num_rows:
                if problem is not None:
                    raise StorageError("it holds nothing that has settled")
                return {}
            written = idle and _write(run.path, tables)
    except (StorageError, OSError) as error:
        raise StorageError(f"{told}. It cannot be made again from the journal: {error}") from error
    # A sweep that runs has not written its tables for the first few seconds.
    if problem is not None or (idle and tables[name].num_rows):
        _log.warning(
            "%s; made again from the journal%s", told, "" if written else ", for this once"
        )
    return tables


def _write(directory: Path, tables: Mapping[str, pa.Table]) -> bool:
    """Put tables into their files; whether that could be done."""
    try:
        for name, table in tables.items():
            write_table(directory, name, table)
    except StorageError:
        return False
    return True
