"""From the journal to the rows of the tables: the one direction in which they are made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
from optuna.trial import FrozenTrial, TrialState

from orchestrator.planning.work import START, State
from orchestrator.recording import user_attributes
from orchestrator.recording.array_text import from_text
from orchestrator.recording.journal import read_storage
from orchestrator.recording.leaderboard import build_leaderboard, image_size_in
from orchestrator.recording.table_schemas import SCHEMA_VERSION, SCHEMAS
from orchestrator.recording.tables import conform, write_table
from trainable.spec.trial_spec import Metric

Row = dict[str, Any]

_STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
_RUN_COLUMNS = (
    "failure",
    "attempt",
    "duration_s",
    "setup_s",
    "features_s",
    "train_s",
    "cache_hits",
    "cache_misses",
    "micro_batches",
    "peak_memory_bytes",
    "device",
    "host",
)
_FACT_COLUMNS = (
    "weights",
    "boundary",
    "frozen_boundaries",
    "num_boundaries",
    "prefix_params_fraction",
    "prefix_flops_fraction",
    "trainable_params",
    "total_params",
    "folds",
    "num_val",
)
_RESOLVED = ("image_size", "precision", "inverse_penalties")
"""What a baseline's result says of its task without any `auto`; version 0.1.0 did not."""
_REPORT_COLUMNS = (
    "val_objective",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_loss",
    "train_loss",
)


class Projection:
    """The tables of one sweep, kept up to date with its studies at little cost.

    What has settled is projected once and never again: settled trials do not change.

    Args:
        sweep_id: of the sweep.
        studies: by name, in ascending order of labels.
    """

    def __init__(self, sweep_id: str, studies: Mapping[str, optuna.Study]) -> None:
        self._sweep_id = sweep_id
        self._studies = studies
        self._trials: dict[str, Row] = {}
        self._curves: dict[str, list[Row]] = {}
        self._finals: dict[tuple[str, int], Row] = {}
        self._predictions: dict[tuple[str, int], pa.Table] = {}

    def tables(self) -> dict[str, pa.Table]:
        """Tables by name, in the order of study and number; the leaderboard is made from them."""
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
        """Bring every table file of a sweep up to date.

        Raises:
            StorageError: a file cannot be written.
        """
        for name, rows in self.tables().items():
            write_table(directory, name, rows)

    def _ordered_trials(self) -> list[str]:
        order = {name: position for position, name in enumerate(self._studies)}
        return sorted(self._trials, key=lambda key: (order[self._trials[key]["study"]], key))

    def _project_study(self, name: str, study: optuna.Study) -> None:
        attributes = user_attributes.attributes_of(study)
        about = attributes.get(user_attributes.ABOUT)
        if about is None:
            return
        for trial in study.get_trials(deepcopy=False):
            key = user_attributes.trial_id(name, trial.number)
            if trial.state.is_finished() and key not in self._trials:
                self._trials[key] = self._trial_row(name, about, trial)
                self._curves[key] = list(self._curve_rows(key, trial))
        for key, value in attributes.items():
            if key.startswith(user_attributes.FINAL_PREFIX):
                trial_id, _, repeat = key.removeprefix(user_attributes.FINAL_PREFIX).rpartition("/")
                self._project_test(trial_id, int(repeat), about, value, value["result"])
            elif key.startswith(user_attributes.BASELINE_PREFIX):
                self._project_baseline(name, about, value)

    def _trial_row(self, study: str, about: Row, trial: FrozenTrial) -> Row:
        attributes = trial.user_attrs
        plan = attributes.get(user_attributes.PLAN, {"params": {}, "spec": {}})
        facts = attributes.get(user_attributes.FACTS, {})
        run = attributes.get(user_attributes.RUN, {})
        last = trial.last_step
        spec = (
            facts.get("spec", plan["spec"])
            if last is None
            else user_attributes.resolved_spec(trial)
        )
        report = attributes[user_attributes.report_key(last)] if last is not None else {}
        return {
            **self._common(study, about, run),
            "trial_id": user_attributes.trial_id(study, trial.number),
            "state": _STATES[trial.state].value,
            "method": "finetune",
            "backbone": user_attributes.shown_backbone(about, spec.get("backbone")),
            "freeze_depth": _freeze_depth(spec, facts),
            "lr": spec.get("lr"),
            "params": _json(plan["params"]),
            "spec": _json(spec),
            "image_size": image_size_in(spec),
            "reports": len(trial.intermediate_values),
            "steps": report.get("step"),
            **{column: facts.get(column) for column in _FACT_COLUMNS},
            **{column: report.get(column) for column in _REPORT_COLUMNS},
            "gain_over_start": _gain_over_start(trial, Metric(about["objective"])),
        }

    def _curve_rows(self, key: str, trial: FrozenTrial) -> Iterator[Row]:
        columns = SCHEMAS["curves"].names
        for number in sorted(trial.intermediate_values):
            report = trial.user_attrs[user_attributes.report_key(number)]
            row = {column: value for column, value in report.items() if column in columns}
            yield {"sweep_id": self._sweep_id, "trial_id": key, **row}

    def _project_baseline(self, study: str, about: Row, value: Row) -> None:
        task, run, result = value["task"], value["run"], value["result"]
        key = user_attributes.recorded_baseline(study, about, task).trial_id
        if key in self._trials:
            return
        row = {
            **self._common(study, about, run),
            "trial_id": key,
            "state": (State.FAILED if result is None else State.COMPLETE).value,
            "method": task["method"],
            "backbone": user_attributes.shown_backbone(about, task["backbone"]),
            "freeze_depth": None if task["backbone"] is None else 1.0,
            "params": _json({}),
            "spec": _json(task),
            "image_size": image_size_in(task),
        }
        if result is not None:
            scores = result["validation"]
            row |= {
                "weights": result["weights"],
                "trainable_params": (result["num_features"] + 1) * result["num_classes"],
                "params": _json({"inverse_penalty": result["inverse_penalty"]}),
                "spec": _json(task | {name: result[name] for name in _RESOLVED if name in result}),
                "folds": result["folds"],
                "val_objective": scores[about["objective"]],
                "val_accuracy": scores["accuracy"],
                "val_balanced_accuracy": scores["balanced_accuracy"],
                "val_loss": scores["log_loss"],
                "num_val": scores["count"],
            }
            for repeat, test in enumerate(result["tests"]):
                self._project_test(key, repeat, about, value, test)
        self._trials[key] = row

    def _common(self, study: str, about: Row, run: Row) -> Row:
        """The columns that trials and baselines share."""
        times: Row = {
            column: datetime.fromisoformat(run[column])
            for column in ("started_at", "finished_at")
            if column in run
        }
        return {
            "sweep_id": self._sweep_id,
            "study": study,
            "label_budget": about["label_budget"],
            "labels_used": about["labels_used"],
            "num_classes": about["num_classes"],
            "selection": about["selection"],
            "objective": about["objective"],
            "seed": about["seed"],
            "schema_version": SCHEMA_VERSION,
            **{column: run.get(column) for column in _RUN_COLUMNS},
            **times,
        }

    def _project_test(
        self, trial_id: str, repeat: int, about: Row, value: Row, test: Row | None
    ) -> None:
        key = (trial_id, repeat)
        if test is None or key in self._finals:
            return
        scores = test["scores"]
        tests = 1 if value["task"].get("method") is None else value["task"]["repeats"]
        self._finals[key] = {
            "sweep_id": self._sweep_id,
            "trial_id": trial_id,
            "repeat": repeat,
            "label_budget": about["label_budget"],
            "test_accuracy": scores["accuracy"],
            "test_balanced_accuracy": scores["balanced_accuracy"],
            "test_loss": scores["log_loss"],
            "test_ece": scores["ece"],
            "num_test": scores["count"],
            "duration_s": value["run"]["duration_s"] / tests,
            "metric": about["objective"],
            "test_score": scores[about["objective"]],
        }
        self._predictions[key] = self._prediction_table(trial_id, repeat, about, test)

    def _prediction_table(self, trial_id: str, repeat: int, about: Row, test: Row) -> pa.Table:
        names = np.asarray(about["class_names"], dtype=object)
        images = about["test"]
        count = len(images["image_id"])
        columns = {
            "sweep_id": pa.repeat(self._sweep_id, count),
            "trial_id": pa.repeat(trial_id, count),
            "repeat": pa.repeat(pa.scalar(repeat, pa.int64()), count),
            "image_id": pa.array(images["image_id"], pa.string()),
            "path": pa.array(images["path"], pa.string()),
            "label": pa.array(names[images["label"]], pa.string()),
            "predicted": pa.array(names[from_text(test["predicted"])], pa.string()),
            "probability": pa.array(from_text(test["probability"]), pa.float64()),
            "label_probability": pa.array(from_text(test["label_probability"]), pa.float64()),
        }
        return pa.table(columns, schema=SCHEMAS["predictions"])


def _gain_over_start(trial: FrozenTrial, objective: Metric) -> float | None:
    """By how much the last report is better than the start; None where either is missing.

    Report 0 is the start, but in version 0.1.0, which did not look at it.
    """
    if not trial.last_step or START not in trial.intermediate_values:
        return None
    start, last = (
        trial.user_attrs[user_attributes.report_key(number)] for number in (START, trial.last_step)
    )
    if start["step"]:
        return None
    better, worse = (last, start) if objective.maximize else (start, last)
    return float(better["val_objective"] - worse["val_objective"])


def rebuild(directory: Path, sweep_id: str) -> None:
    """Make every table of a sweep anew from its journal, which is only read.

    Raises:
        UsageError: there is no journal.
        StorageError: a file cannot be written.
    """
    Projection(sweep_id, load_studies(directory)).write(directory)


def load_studies(directory: Path) -> dict[str, optuna.Study]:
    """The studies of a sweep's journal for reading, in ascending order of labels.

    Raises:
        UsageError: there is no journal.
        StorageError: the journal cannot be read, or is damaged amid good records.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = read_storage(directory / "journal.log")
    names = [study.study_name for study in storage.get_all_studies()]
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def _freeze_depth(spec: Row, facts: Row) -> float | None:
    """As given, or for a count of blocks the share that it came to."""
    if spec.get("freeze_depth") is not None:
        return float(spec["freeze_depth"])
    if "frozen_boundaries" in facts:
        return float(facts["frozen_boundaries"] / facts["num_boundaries"])
    return None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _as_table(name: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])
