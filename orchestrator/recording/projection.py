"""Project the journal onto the tables: the tables are made from the journal, never the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import optuna
import pyarrow as pa

from orchestrator.planning.work import Kind
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import read_storage
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.recording.table_rows import Row, StudyRows
from orchestrator.recording.table_schemas import SCHEMAS
from orchestrator.recording.tables import conform, write_table


class Projection:
    """The tables of one sweep, updated incrementally from its studies.

    Each finished trial is projected once, because finished trials do not change.

    Args:
        sweep_id: id of the sweep.
        studies: studies by name, in ascending order of labels.
    """

    def __init__(self, sweep_id: str, studies: Mapping[str, optuna.Study]) -> None:
        self._sweep_id = sweep_id
        self._studies = studies
        self._trials: dict[str, Row] = {}
        self._curves: dict[str, list[Row]] = {}
        self._finals: dict[tuple[str, int], Row] = {}
        self._predictions: dict[tuple[str, int], pa.Table] = {}

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables by name, rows ordered by study and number, with the leaderboard."""
        for name, study in self._studies.items():
            self._project_study(name, study)
        trials = _as_table("trials", [self._trials[key] for key in self._ordered_trials()])
        finals = _as_table("finals", [self._finals[key] for key in sorted(self._finals)])
        empty = SCHEMAS["predictions"].empty_table()
        predictions = pa.concat_tables(
            [empty, *(self._predictions[key] for key in sorted(self._predictions))]
        )
        return {
            "trials": trials,
            "curves": conform(
                "curves",
                [row for key in self._ordered_trials() for row in self._curves.get(key, [])],
            ),
            "finals": finals,
            "predictions": predictions,
            "leaderboard": conform("leaderboard", build_leaderboard(trials, finals, predictions)),
        }

    def write(self, directory: Path) -> None:
        """Write every table file of a sweep.

        Raises:
            StorageError: a file cannot be written.
        """
        for name, rows in self.tables().items():
            write_table(directory, name, rows)

    def _ordered_trials(self) -> list[str]:
        order = {name: position for position, name in enumerate(self._studies)}
        return sorted(self._trials, key=lambda key: (order[self._trials[key]["study"]], key))

    def _project_study(self, name: str, study: optuna.Study) -> None:
        attributes = stored_attributes(study)
        about = attributes.get(user_attributes.ABOUT)
        if about is None:
            return
        rows = StudyRows(self._sweep_id, name, about)
        for trial in study.get_trials(deepcopy=False):
            key = user_attributes.trial_id(name, trial.number)
            if trial.state.is_finished() and key not in self._trials:
                self._trials[key] = rows.trial(trial)
                self._curves[key] = list(rows.curve(trial))
        for outcome in user_attributes.outcomes(attributes):
            if outcome.kind is Kind.FINAL:
                result = outcome.value["result"]
                self._project_test(rows, *outcome.final_id, outcome.value, result)
            else:
                self._project_baseline(rows, outcome.value)

    def _project_baseline(self, rows: StudyRows, value: Row) -> None:
        key = rows.baseline_id(value)
        if key in self._trials:
            return
        if value["result"] is not None:
            for repeat, test in enumerate(value["result"]["tests"]):
                self._project_test(rows, key, repeat, value, test)
        self._trials[key] = rows.baseline(value)

    def _project_test(
        self, rows: StudyRows, trial_id: str, repeat: int, value: Row, test: Row | None
    ) -> None:
        key = (trial_id, repeat)
        if test is None or key in self._finals:
            return
        self._finals[key] = rows.final(trial_id, repeat, value, test)
        self._predictions[key] = rows.predictions(trial_id, repeat, test)


def rebuild(directory: Path, sweep_id: str) -> None:
    """Rewrite every table of a sweep from its journal, which is not changed.

    Raises:
        UsageError: there is no journal.
        StorageError: a file cannot be written.
    """
    Projection(sweep_id, load_studies(directory)).write(directory)


def load_studies(directory: Path) -> dict[str, optuna.Study]:
    """Return the studies of a sweep's journal, read-only, in ascending order of labels.

    Raises:
        UsageError: there is no journal.
        StorageError: the journal cannot be read, or is damaged between good records.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = read_storage(directory / "journal.log")
    names = [study.study_name for study in storage.get_all_studies()]
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def _as_table(name: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])
