"""Rows of the tables, made from the journal's records of one study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from optuna.trial import FrozenTrial, TrialState

from orchestrator.methods import Method
from orchestrator.planning.work import START, State
from orchestrator.recording import user_attributes
from orchestrator.recording.leaderboard import image_size_in, text_inputs_in
from orchestrator.recording.prediction_columns import predicted_classes, predicted_masks
from orchestrator.recording.table_schemas import SCHEMA_VERSION, SCHEMAS
from orchestrator.recording.tables import conform
from trainable.spec.metrics import Metric
from trainable.spec.settings import INPUTS

Row = dict[str, Any]

_STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
_RESOLVED = (*INPUTS, "precision", "inverse_penalties")
"""Resolved settings in a baseline's result; version 0.1.0 did not record them."""


class StudyRows:
    """Makes table rows from the records of one study.

    Args:
        sweep_id: id of the sweep.
        study: name of the study.
        about: description of the study in the journal.
    """

    def __init__(self, sweep_id: str, study: str, about: Row) -> None:
        self._sweep_id = sweep_id
        self._study = study
        self._about = about

    def trial(self, trial: FrozenTrial) -> Row:
        """Return the row of a finished trial in `trials`."""
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
            **_columns("trials", facts),
            **_columns("trials", report),
            "val_score": report.get("val_objective"),
            **self._common(run),
            "trial_id": user_attributes.trial_id(self._study, trial.number),
            "state": _STATES[trial.state].value,
            "method": Method.FINETUNE.value,
            "backbone": user_attributes.shown_backbone(self._about, spec.get("backbone")),
            "freeze_depth": _freeze_depth(spec, facts),
            "lr": spec.get("lr"),
            "params": _json(plan["params"]),
            "spec": _json(spec),
            "image_size": image_size_in(spec),
            **text_inputs_in(spec),
            "reports": len(trial.intermediate_values),
            "steps": report.get("step"),
            "gain_over_start": gain_over_start(trial, Metric(self._about["objective"])),
        }

    def curve(self, trial: FrozenTrial) -> Iterator[Row]:
        """Yield the rows of a finished trial in `curves`, one per report."""
        key = user_attributes.trial_id(self._study, trial.number)
        for number in sorted(trial.intermediate_values):
            report = trial.user_attrs[user_attributes.report_key(number)]
            yield {"sweep_id": self._sweep_id, "trial_id": key, **_columns("curves", report)}

    def baseline_id(self, value: Row) -> str:
        """Return the trial id of a baseline's journal entry."""
        return user_attributes.recorded_baseline(self._study, self._about, value["task"]).trial_id

    def baseline(self, value: Row) -> Row:
        """Return the row of a baseline's journal entry in `trials`."""
        task, run, result = value["task"], value["run"], value["result"]
        row = {
            **self._common(run),
            "trial_id": self.baseline_id(value),
            "state": (State.FAILED if result is None else State.COMPLETE).value,
            "method": task["method"],
            "backbone": user_attributes.shown_backbone(self._about, task["backbone"]),
            "freeze_depth": None if task["backbone"] is None else 1.0,
            "params": _json({}),
            "spec": _json(task),
            "image_size": image_size_in(task),
        }
        if result is not None:
            scores = result["validation"]
            resolved = {name: result[name] for name in _RESOLVED if name in result}
            row |= {
                "weights": result["weights"],
                "trainable_params": (result["num_features"] + 1) * result["num_classes"],
                "params": _json({"inverse_penalty": result["inverse_penalty"]}),
                "spec": _json(task | resolved),
                **text_inputs_in(resolved),
                "folds": result["folds"],
                "val_objective": scores[self._about["objective"]],
                "val_score": scores[self._about["objective"]],
                "val_accuracy": scores.get("accuracy"),
                "val_balanced_accuracy": scores.get("balanced_accuracy"),
                "val_loss": scores["log_loss"],
                "num_val": scores["count"],
            }
        return row

    def final(self, trial_id: str, repeat: int, value: Row, test: Row) -> Row:
        """Return the row in `finals` of one repeat that was scored on the test set.

        Args:
            trial_id: id of the trial or baseline.
            repeat: number of the draw.
            value: journal entry of the final or baseline.
            test: its test result of this repeat.
        """
        scores = test["scores"]
        tests = 1 if value["task"].get("method") is None else value["task"]["repeats"]
        return {
            "sweep_id": self._sweep_id,
            "trial_id": trial_id,
            "repeat": repeat,
            "label_budget": self._about["label_budget"],
            "test_accuracy": scores.get("accuracy"),
            "test_balanced_accuracy": scores.get("balanced_accuracy"),
            "test_loss": scores["log_loss"],
            "test_ece": scores.get("ece"),
            "num_test": scores["count"],
            "duration_s": value["run"]["duration_s"] / tests,
            "metric": self._about["objective"],
            "test_score": scores[self._about["objective"]],
            "lr_factor": value["run"].get("lr_factor"),
        }

    def predictions(self, trial_id: str, repeat: int, test: Row) -> pa.Table:
        """Return the rows in `predictions` of one repeat, one per test image."""
        names = np.asarray(self._about["class_names"], dtype=object)
        images = self._about["test"]
        count = len(images["image_id"])
        columns = {
            "sweep_id": pa.repeat(self._sweep_id, count),
            "trial_id": pa.repeat(trial_id, count),
            "repeat": pa.repeat(pa.scalar(repeat, pa.int64()), count),
            "image_id": pa.array(images["image_id"], pa.string()),
            "path": pa.array(images["path"], pa.string()),
            **(
                predicted_masks(test, names)
                if "pixels" in test
                else predicted_classes(test, names, images["label"])
            ),
        }
        return conform("predictions", pa.table(columns))

    def _common(self, run: Row) -> Row:
        """Return the columns that trials and baselines share."""
        times: Row = {
            column: datetime.fromisoformat(run[column])
            for column in ("started_at", "finished_at")
            if column in run
        }
        return {
            **_columns("trials", run),
            **times,
            "device": run.get("device"),  # facts name one too; a lost process tells of none
            "sweep_id": self._sweep_id,
            "study": self._study,
            "label_budget": self._about["label_budget"],
            "labels_used": self._about["labels_used"],
            "num_classes": self._about["num_classes"],
            "selection": self._about["selection"],
            "objective": self._about["objective"],
            "seed": self._about["seed"],
            "schema_version": SCHEMA_VERSION,
            "modality": self._about.get("modality"),
            "task": self._about.get("task"),
            "budget_unit": self._about.get("budget_unit"),
        }


def gain_over_start(trial: FrozenTrial, objective: Metric) -> float | None:
    """Return how much better the last report is than the start; None if either is missing.

    Report 0 is the start, except in version 0.1.0, which did not evaluate the start.
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


def _freeze_depth(spec: Row, facts: Row) -> float | None:
    """Return the freeze depth as given, or the share that a number of blocks came to."""
    if spec.get("freeze_depth") is not None:
        return float(spec["freeze_depth"])
    if "frozen_boundaries" in facts:
        return float(facts["frozen_boundaries"] / facts["num_boundaries"])
    return None


def _columns(table: str, recorded: Row) -> Row:
    """Return the recorded values that have the name of a column of the table."""
    return {column: recorded[column] for column in SCHEMAS[table].names if column in recorded}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
