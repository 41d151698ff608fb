"""Columns, types and keys of the tables of a sweep."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from orchestrator.recording.column_descriptions import COLUMN_DESCRIPTIONS, TABLE_DESCRIPTIONS

SCHEMA_VERSION = 4
"""Version of the columns below. Columns are only ever added, so older files stay readable."""

VERSION_KEY = b"schema_version"
"""Key of a file's metadata. Files of 0.1.0 have none, which counts as version 0."""

_TEXT, _COUNT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
_BY_CLASS = pa.list_(pa.struct({"class": pa.string(), "probability": pa.float64()}))

_PIXELS = pa.list_(
    pa.struct({"class": pa.string(), **dict.fromkeys(("found", "labelled", "predicted"), _COUNT)})
)

_SINCE_3: Mapping[str, pa.DataType] = {
    "task": _TEXT,
    "val_score": _REAL,
    "budget_unit": _TEXT,
    "max_length": _COUNT,
    "truncate": _TEXT,
    "prompt": _TEXT,
    "pooling": _TEXT,
}
"""Columns that version 3 added to both `trials` and `leaderboard`."""

SINCE: Mapping[str, Mapping[str, int]] = {
    "trials": {
        "image_size": 1,
        "gain_over_start": 1,
        "modality": 2,
        **dict.fromkeys(_SINCE_3, 3),
    },
    "finals": {"metric": 1, "test_score": 1, "lr_factor": 4},
    "predictions": {"probabilities": 3, "pixels": 4, "log_loss": 4, "mask": 4},
    "leaderboard": {
        "image_size": 1,
        "metric": 1,
        "test_score": 1,
        "gain_over_start": 1,
        "head_init": 1,
        "modality": 2,
        **dict.fromkeys(_SINCE_3, 3),
        "collapsed": 4,
    },
}
"""First schema version of a column, by table and column; 0 for columns that are not listed."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "trials": ("sweep_id", "trial_id"),
    "curves": ("sweep_id", "trial_id", "report"),
    "finals": ("sweep_id", "trial_id", "repeat"),
    "predictions": ("sweep_id", "trial_id", "repeat", "image_id"),
    "leaderboard": ("study", "trial_id"),
}
"""Columns that identify a row of each table; they are never null."""

_COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "trials": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "study": _TEXT,
        "state": _TEXT,
        "failure": _TEXT,
        "attempt": _COUNT,
        "method": _TEXT,
        "backbone": _TEXT,
        "weights": _TEXT,
        "freeze_depth": _REAL,
        "boundary": _TEXT,
        "frozen_boundaries": _COUNT,
        "num_boundaries": _COUNT,
        "prefix_params_fraction": _REAL,
        "prefix_flops_fraction": _REAL,
        "trainable_params": _COUNT,
        "total_params": _COUNT,
        "lr": _REAL,
        "label_budget": _REAL,
        "labels_used": _COUNT,
        "num_classes": _COUNT,
        "selection": _TEXT,
        "objective": _TEXT,
        "params": _TEXT,
        "spec": _TEXT,
        "folds": _COUNT,
        "reports": _COUNT,
        "steps": _COUNT,
        "val_objective": _REAL,
        "val_accuracy": _REAL,
        "val_balanced_accuracy": _REAL,
        "val_loss": _REAL,
        "num_val": _COUNT,
        "train_loss": _REAL,
        "duration_s": _REAL,
        "setup_s": _REAL,
        "features_s": _REAL,
        "train_s": _REAL,
        "peak_memory_bytes": _COUNT,
        "device": _TEXT,
        "host": _TEXT,
        "started_at": _TIME,
        "finished_at": _TIME,
        "seed": _COUNT,
        "schema_version": _COUNT,
        "cache_hits": _COUNT,
        "cache_misses": _COUNT,
        "micro_batches": _COUNT,
        "image_size": _COUNT,
        "gain_over_start": _REAL,
        "modality": _TEXT,
        **_SINCE_3,
    },
    "curves": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "report": _COUNT,
        "step": _COUNT,
        "train_loss": _REAL,
        "val_loss": _REAL,
        "val_accuracy": _REAL,
        "val_objective": _REAL,
        "elapsed_s": _REAL,
    },
    "finals": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "repeat": _COUNT,
        "label_budget": _REAL,
        "test_accuracy": _REAL,
        "test_balanced_accuracy": _REAL,
        "test_loss": _REAL,
        "test_ece": _REAL,
        "num_test": _COUNT,
        "duration_s": _REAL,
        "metric": _TEXT,
        "test_score": _REAL,
        "lr_factor": _REAL,
    },
    "predictions": {
        "sweep_id": _TEXT,
        "trial_id": _TEXT,
        "repeat": _COUNT,
        "image_id": _TEXT,
        "path": _TEXT,
        "label": _TEXT,
        "predicted": _TEXT,
        "probability": _REAL,
        "label_probability": _REAL,
        "probabilities": _BY_CLASS,
        "pixels": _PIXELS,
        "log_loss": _REAL,
        "mask": pa.binary(),
    },
    "leaderboard": {
        "label_budget": _REAL,
        "study": _TEXT,
        "rank": _COUNT,
        "trial_id": _TEXT,
        "method": _TEXT,
        "backbone": _TEXT,
        "freeze_depth": _REAL,
        "lr": _REAL,
        "params": _TEXT,
        "val_objective": _REAL,
        "val_accuracy": _REAL,
        "num_val": _COUNT,
        "test_accuracy": _REAL,
        "test_ci_low": _REAL,
        "test_ci_high": _REAL,
        "repeats": _COUNT,
        "diff_to_best": _REAL,
        "diff_ci_low": _REAL,
        "diff_ci_high": _REAL,
        "tied_with_best": _FLAG,
        "labels_used": _COUNT,
        "duration_s": _REAL,
        "image_size": _COUNT,
        "metric": _TEXT,
        "test_score": _REAL,
        "gain_over_start": _REAL,
        "head_init": _TEXT,
        "modality": _TEXT,
        **_SINCE_3,
        "collapsed": _COUNT,
    },
}

SCHEMAS: Mapping[str, pa.Schema] = {
    name: pa.schema(
        [
            pa.field(
                column,
                kind,
                nullable=column not in KEYS[name],
                metadata=COLUMN_DESCRIPTIONS[name][column].to_metadata(),
            )
            for column, kind in kinds.items()
        ],
        metadata={"description": TABLE_DESCRIPTIONS[name], VERSION_KEY: str(SCHEMA_VERSION)},
    )
    for name, kinds in _COLUMNS.items()
}
"""Columns of each table in order; the metadata of a column describes it."""
