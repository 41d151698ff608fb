"""Descriptions and units of the columns of all tables.

`table_schemas.SCHEMAS` has them as metadata of its fields, so every column needs one, and
docs/tables.md is generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SHARE = "share, 0 to 1"
SECONDS = "s"
NATS = "nats"
PIXELS = "pixels"
OBJECTIVE_UNIT = "the objective's"
"""For accuracies a share, for log loss nats."""


class ColumnDescription(NamedTuple):
    """The description of a column.

    Attributes:
        meaning: meaning of the column, one line.
        unit: unit of its values; empty for texts, counts and flags.
    """

    meaning: str
    unit: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the column's field."""
        return {"description": self.meaning, **({"unit": self.unit} if self.unit else {})}


TABLE_DESCRIPTIONS: Mapping[str, str] = {
    "trials": "One row per settled trial or baseline.",
    "curves": "One row per report of a trial's last attempt. Report 0 is the start of the trial.",
    "finals": "One row per finalist or baseline and repeat: the scores on the test set.",
    "predictions": "One row per finalist or baseline, repeat and test image.",
    "leaderboard": "One row per distinct configuration and label budget, ordered by rank.",
}
"""Description of each table."""

_SHARED: Mapping[str, ColumnDescription] = {
    "sweep_id": ColumnDescription("the sweep: the name of its directory when it was made"),
    "trial_id": ColumnDescription(
        "the trial, `<study>-<number>` such as `b5-0007`, or the baseline, such as `b5-pixels` or "
        "`b5-probe-resnet18`"
    ),
    "study": ColumnDescription("the study of the label budget, such as `b5`"),
    "method": ColumnDescription(
        "`finetune`, `probe` (a linear probe), `pixels` (logistic regression on raw pixels), "
        "`tfidf` (the same on tf-idf of texts) or `majority` (the commonest class)"
    ),
    "backbone": ColumnDescription("the backbone's short name; null for baselines without one"),
    "freeze_depth": ColumnDescription(
        "share of the backbone's boundaries that are frozen: 0 trains everything, 1 the new head "
        "alone",
        SHARE,
    ),
    "lr": ColumnDescription("peak learning rate; null for baselines"),
    "label_budget": ColumnDescription(
        "labelled images per class, for training and validation together; `labels_used / "
        "num_classes` for `all` and totals; of masks, labelled images in all",
        "as `budget_unit` says",
    ),
    "labels_used": ColumnDescription(
        "labelled images drawn, over all classes, for training and validation together", "images"
    ),
    "params": ColumnDescription(
        "JSON: the axes of the search that apply, with the values that were tried"
    ),
    "image_size": ColumnDescription(
        "side of the images that the network sees; null in tables of 0.1.0", PIXELS
    ),
    "modality": ColumnDescription(
        "kind of the examples: `image` or `text`; null in tables before version 2"
    ),
    "task": ColumnDescription(
        "what the labels are: `classification` or `segmentation`; null in tables before version 3"
    ),
    "val_score": ColumnDescription("`val_objective` under the name that all tasks share"),
    "budget_unit": ColumnDescription(
        "what `label_budget` counts: `labels per class`, or `examples` where they are masks; null "
        "in tables before version 3"
    ),
    "max_length": ColumnDescription(
        "most tokens of a text that the network sees; null for images and tf-idf", "tokens"
    ),
    "truncate": ColumnDescription(
        "what is kept of a longer text: `head` or `head_tail`; null for images and tf-idf"
    ),
    "prompt": ColumnDescription("stands before every text; null for images and tf-idf"),
    "pooling": ColumnDescription(
        "how the vectors of a text's tokens become one: `mean`, `cls`, `last` or `max`; null for "
        "images and tf-idf"
    ),
    "val_objective": ColumnDescription(
        "the objective of the last report, on the pooled out-of-fold predictions; what ranks",
        OBJECTIVE_UNIT,
    ),
    "val_accuracy": ColumnDescription("accuracy in validation; null for masks", SHARE),
    "val_loss": ColumnDescription("log loss in validation", NATS),
    "num_val": ColumnDescription("images scored by each validation", "images"),
    "train_loss": ColumnDescription(
        "mean training loss over the updates since the report before, and over folds", NATS
    ),
    "gain_over_start": ColumnDescription(
        "the objective of the last report less that of report 0, positive where training made it "
        "better; null for baselines and in tables of 0.1.0",
        OBJECTIVE_UNIT,
    ),
    "metric": ColumnDescription(
        "what `test_score` measures, such as `accuracy`, `log_loss` or `miou`"
    ),
    "test_accuracy": ColumnDescription("accuracy on the test set; null for masks", SHARE),
    "repeat": ColumnDescription("number of the draw of labels and of the training seed, from 0"),
}
"""Columns with the same meaning in several tables."""

_TRIALS: Mapping[str, ColumnDescription] = {
    "state": ColumnDescription("`complete`, `pruned` or `failed`"),
    "failure": ColumnDescription(
        "why it failed or ended early: a word such as `nonfinite` or `worker_lost`, or the error; "
        "null otherwise"
    ),
    "attempt": ColumnDescription("number of the last attempt, from 0"),
    "weights": ColumnDescription(
        "the weights: torchvision's name, timm's tag, the hub's revision, or a path"
    ),
    "boundary": ColumnDescription(
        "graph node after which the backbone is cut; null where nothing is frozen"
    ),
    "frozen_boundaries": ColumnDescription("boundaries in the frozen prefix"),
    "num_boundaries": ColumnDescription("boundaries of the backbone"),
    "prefix_params_fraction": ColumnDescription(
        "share of all parameters that lie in the prefix", SHARE
    ),
    "prefix_flops_fraction": ColumnDescription(
        "share of the forward pass before the head that the prefix takes", SHARE
    ),
    "trainable_params": ColumnDescription("parameters that are trained, the new head included"),
    "total_params": ColumnDescription("parameters of prefix and suffix"),
    "num_classes": ColumnDescription("classes of the task"),
    "selection": ColumnDescription(
        "where the validation images came from, such as `folds=3`, and whether inside the budget"
    ),
    "objective": ColumnDescription(
        "what trials are ranked by, such as `accuracy`, `log_loss` or `miou`"
    ),
    "params": ColumnDescription(
        "JSON: the axes of the search that apply, with the values that were tried; the penalty of "
        "a baseline"
    ),
    "spec": ColumnDescription("JSON: every setting of the trial, each `auto` resolved"),
    "folds": ColumnDescription("validation parts that were trained in lockstep"),
    "reports": ColumnDescription("reports made, the start (report 0) included"),
    "steps": ColumnDescription("optimizer updates made in each fold", "updates"),
    "val_balanced_accuracy": ColumnDescription("balanced accuracy in validation", SHARE),
    "duration_s": ColumnDescription("wall-clock time of the last attempt", SECONDS),
    "setup_s": ColumnDescription(
        "time to set up, earlier attempts that this one resumed included", SECONDS
    ),
    "features_s": ColumnDescription(
        "time to read or compute activations of the frozen prefix, earlier attempts included",
        SECONDS,
    ),
    "train_s": ColumnDescription("time to train and validate, earlier attempts included", SECONDS),
    "peak_memory_bytes": ColumnDescription(
        "most memory held: on a GPU by the trial, on a CPU by its process so far", "bytes"
    ),
    "device": ColumnDescription("the device that it ran on"),
    "host": ColumnDescription("name of the machine that it ran on"),
    "started_at": ColumnDescription("start of the last attempt", "UTC"),
    "finished_at": ColumnDescription("end of the last attempt", "UTC"),
    "seed": ColumnDescription("of the sweep"),
    "schema_version": ColumnDescription("of these columns"),
    "cache_hits": ColumnDescription("rows of activations that were found in the feature cache"),
    "cache_misses": ColumnDescription("rows of activations that were computed"),
    "micro_batches": ColumnDescription(
        "parts that a batch was computed in: 1, or more where a GPU's memory did not hold it whole"
    ),
}

_CURVES: Mapping[str, ColumnDescription] = {
    "report": ColumnDescription("number of the report; 0 is the start, before any update"),
    "step": ColumnDescription("optimizer updates made so far in each fold", "updates"),
    "train_loss": _SHARED["train_loss"]._replace(
        meaning=_SHARED["train_loss"].meaning + "; null for report 0"
    ),
    "val_objective": ColumnDescription(
        "the objective in validation; what the pruner sees", OBJECTIVE_UNIT
    ),
    "elapsed_s": ColumnDescription(
        "time since the trial began, earlier attempts that this one resumed included", SECONDS
    ),
}

_FINALS: Mapping[str, ColumnDescription] = {
    "test_balanced_accuracy": ColumnDescription("balanced accuracy on the test set", SHARE),
    "test_loss": ColumnDescription("log loss on the test set", NATS),
    "test_ece": ColumnDescription("expected calibration error on the test set", SHARE),
    "num_test": ColumnDescription("test images scored", "images"),
    "duration_s": ColumnDescription(
        "wall-clock time of the refit; of a baseline, its whole time divided by the repeats",
        SECONDS,
    ),
    "test_score": ColumnDescription("the metric on the test set", OBJECTIVE_UNIT),
    "lr_factor": ColumnDescription(
        "factor of the learning rate that the refit was trained with: below 1 if training "
        "collapsed at higher rates, 0 if it did at all that were tried, so that the start is kept; "
        "null where nothing is trained: for baselines, and if `interpolation` is 0"
    ),
}

_PREDICTIONS: Mapping[str, ColumnDescription] = {
    "image_id": ColumnDescription("hash of the image's content"),
    "path": ColumnDescription("the image's path, or what the source calls it"),
    "label": ColumnDescription("the true class; null for masks"),
    "predicted": ColumnDescription("the class with the highest probability; null for masks"),
    "probability": ColumnDescription("of the predicted class; null for masks", SHARE),
    "label_probability": ColumnDescription("of the true class; null for masks", SHARE),
    "probabilities": ColumnDescription(
        "of every class, where the objective needs them (`auroc`), else null", SHARE
    ),
    "pixels": ColumnDescription(
        "of masks, for each class that the true or the predicted mask holds: its pixels that were "
        "`found`, those that are `labelled` as it, and those `predicted`; else null",
        PIXELS,
    ),
    "log_loss": ColumnDescription(
        "of masks, the mean negative log-probability of a pixel's class; else null", NATS
    ),
    "mask": ColumnDescription(
        "of the worst masks of a repeat, the predicted class of each of 64 x 64 places, as PNG; "
        "else null"
    ),
}

_LEADERBOARD: Mapping[str, ColumnDescription] = {
    "rank": ColumnDescription(
        "position within the study by validation, from 1; null for baselines without one"
    ),
    "test_accuracy": ColumnDescription(
        "accuracy on the test set, mean over repeats; null where the row is no finalist", SHARE
    ),
    "test_ci_low": ColumnDescription(
        "lower end of the 95 % interval of `test_score`", OBJECTIVE_UNIT
    ),
    "test_ci_high": ColumnDescription(
        "upper end of the 95 % interval of `test_score`", OBJECTIVE_UNIT
    ),
    "repeats": ColumnDescription("repeats that the test score is the mean of"),
    "collapsed": ColumnDescription(
        "repeats whose training collapsed at the learning rate, and was repeated at lower ones or "
        "left at its start (`lr_factor` in `finals`); null where nothing is trained, or the row is "
        "no finalist"
    ),
    "diff_to_best": ColumnDescription(
        "test score less that of the best ranked row with a test score, paired by repeat and image",
        OBJECTIVE_UNIT,
    ),
    "diff_ci_low": ColumnDescription(
        "lower end of the 95 % interval of `diff_to_best`", OBJECTIVE_UNIT
    ),
    "diff_ci_high": ColumnDescription(
        "upper end of the 95 % interval of `diff_to_best`", OBJECTIVE_UNIT
    ),
    "tied_with_best": ColumnDescription("whether the interval of `diff_to_best` holds 0"),
    "duration_s": ColumnDescription("wall-clock time of the trial's last attempt", SECONDS),
    "test_score": ColumnDescription(
        "the metric on the test set, mean over repeats; null where the row is no finalist",
        OBJECTIVE_UNIT,
    ),
    "head_init": ColumnDescription("what the head started as: `logistic` (the probe) or `zero`"),
}

COLUMN_DESCRIPTIONS: Mapping[str, Mapping[str, ColumnDescription]] = {
    "trials": {**_SHARED, **_TRIALS},
    "curves": {**_SHARED, **_CURVES},
    "finals": {**_SHARED, **_FINALS},
    "predictions": {**_SHARED, **_PREDICTIONS},
    "leaderboard": {**_SHARED, **_LEADERBOARD},
}
"""Descriptions by table and column; a table uses some of the shared columns, and all of its own."""
