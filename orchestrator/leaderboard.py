"""The leaderboard of a sweep: ranked by validation, with test scores and ties for the finalists.

A pure function of three tables; the order of their rows does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.intervals import Interval, accuracy_interval, difference_interval
from orchestrator.tables import SCHEMAS
from trainable.spec import Metric

Row = dict[str, Any]

_CONFIGURATION = ("study", "backbone", "weights", "freeze_depth", "lr", "params")
WRONG, RIGHT, MISSING = 0, 1, 2
"""What a repeat may have answered for an image."""


def build_leaderboard(trials: pa.Table, finals: pa.Table, predictions: pa.Table) -> list[Row]:
    """One row a distinct configuration and budget, best first, in the columns of the contract.

    Complete trials rank within their study by `val_objective`; ties go to the lower validation
    loss, the fewer trained parameters, the smaller learning rate, the earlier trial. The test set
    has no say in the order. Equal configurations share the row of the earliest trial, or of the
    earliest finalist among them. Baselines follow without a rank.

    Test scores cover the repeats that `finals` and `predictions` both hold, on the images that all
    of those repeats predicted. Differences are to the first ranked row with test scores, paired on
    the repeats and images that both rows have; a row is tied where the interval holds zero.

    Args:
        trials: of one sweep, by `SCHEMAS`.
        finals: of the same sweep.
        predictions: of the same sweep.

    Returns:
        Rows by label budget, then rank, then baselines; columns that do not apply are None.

    Raises:
        ValueError: the trials are of several sweeps, or an objective is unknown.
    """
    if len(pc.unique(trials["sweep_id"])) > 1:
        raise ValueError("trials: rows of several sweeps; build one leaderboard a sweep")
    settled = trials.filter(pc.equal(trials["state"], "complete")).select(_USED).to_pylist()
    scores = score_finalists(finals, predictions)
    studies: dict[str, list[Row]] = {}
    for trial in settled:
        studies.setdefault(trial["study"], []).append(trial)
    rows: list[Row] = []
    for study in sorted(studies, key=lambda study: (_budget(studies[study]), study)):
        rows += _study_rows(studies[study], scores)
    return rows


def picks(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The configuration to use at each budget: the first ranked row with a test score.

    Where no ranked row of a study was scored on the test set, it is the first ranked one; a study
    without any has no pick. Validation alone orders the rows, so that the test score of a pick is
    no maximum over test scores.

    Args:
        rows: of one sweep's leaderboard, in its order.

    Returns:
        At most one row a study, in the order of the rows.
    """
    picked: dict[str, Row] = {}
    for row in rows:
        if row["rank"] is not None:
            held = picked.setdefault(row["study"], dict(row))
            if held["test_accuracy"] is None and row["test_accuracy"] is not None:
                picked[row["study"]] = dict(row)
    return list(picked.values())


_USED = [
    *(c for c in SCHEMAS["leaderboard"].names if c in SCHEMAS["trials"].names),
    *("weights", "objective", "val_loss", "trainable_params"),
]


@dataclass(frozen=True)
class Scores:
    """Right and wrong answers of one finalist.

    Attributes:
        repeats: (R,) numbers of the repeats, ascending.
        answers: (R, I) uint8 `WRONG`, `RIGHT` or `MISSING`, for every test image of the sweep.
    """

    repeats: NDArray[np.int64]
    answers: NDArray[np.uint8]

    def interval(self) -> Interval | None:
        """The test accuracy, or None where no image was predicted in all repeats."""
        seen = _seen(self.answers)
        return accuracy_interval(self.answers[:, seen]) if seen.any() else None

    def minus(self, other: Scores) -> Interval | None:
        """The paired difference to `other`, or None where the two share no repeat or image."""
        _, mine, theirs = np.intersect1d(self.repeats, other.repeats, return_indices=True)
        a, b = self.answers[mine], other.answers[theirs]
        seen = _seen(a) & _seen(b)
        return difference_interval(a[:, seen], b[:, seen]) if a.size and seen.any() else None


def _seen(answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(I,) whether every repeat predicted the image."""
    return np.asarray((answers != MISSING).all(axis=0))


def score_finalists(finals: pa.Table, predictions: pa.Table) -> dict[str, Scores]:
    """The answers of every trial with repeats in both tables, by trial_id.

    Args:
        finals: of one sweep, by `SCHEMAS`.
        predictions: of the same sweep; those of some of its trials will do.
    """
    if predictions.num_rows == 0:
        return {}
    trial, trial_ids = _codes(predictions["trial_id"])
    image, image_ids = _codes(predictions["image_id"])
    repeat = predictions["repeat"].to_numpy()
    right = pc.fill_null(pc.equal(predictions["predicted"], predictions["label"]), False)
    num_repeats = int(repeat.max()) + 1
    groups, group = np.unique(trial * num_repeats + repeat, return_inverse=True)
    answers = np.full((len(groups), len(image_ids)), MISSING, dtype=np.uint8)
    answers[group, image] = np.where(right.to_numpy(), RIGHT, WRONG)
    wanted = set(zip(finals["trial_id"].to_pylist(), finals["repeat"].to_pylist(), strict=True))
    members: dict[str, list[tuple[int, int]]] = {}
    for position, code in enumerate(groups):
        trial_id, number = trial_ids[code // num_repeats], int(code % num_repeats)
        if (trial_id, number) in wanted:
            members.setdefault(trial_id, []).append((number, position))
    return {
        trial_id: Scores(
            np.array([number for number, _ in found], dtype=np.int64),
            answers[[position for _, position in found]],
        )
        for trial_id, found in members.items()
    }


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """(M,) indices of the values of `column` into the list of its distinct values."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _study_rows(trials: Sequence[Row], scores: Mapping[str, Scores]) -> list[Row]:
    """The finished rows of one study: ranked configurations, then baselines."""
    maximize = Metric(trials[0]["objective"]).maximize
    tuned = [trial for trial in trials if trial["method"] == "finetune"]
    ranked = sorted(_distinct(tuned, scores), key=lambda trial: _order(trial, maximize))
    baselines = sorted(
        (trial for trial in trials if trial["method"] != "finetune"),
        key=lambda trial: _order(trial, maximize),
    )
    best = next((scores[t["trial_id"]] for t in ranked if t["trial_id"] in scores), None)
    ranks: Iterable[int | None] = [*range(1, len(ranked) + 1), *[None] * len(baselines)]
    return [
        _row(trial, rank, scores.get(trial["trial_id"]), best)
        for trial, rank in zip([*ranked, *baselines], ranks, strict=True)
    ]


def _distinct(trials: Iterable[Row], finalists: Collection[str]) -> list[Row]:
    """The first trial of every configuration; finalists come before the others."""
    kept: dict[tuple[Any, ...], Row] = {}
    for trial in sorted(trials, key=lambda t: (t["trial_id"] not in finalists, *_age(t))):
        kept.setdefault(tuple(trial[column] for column in _CONFIGURATION), trial)
    return list(kept.values())


def _order(trial: Row, maximize: bool) -> tuple[Any, ...]:
    """Sorts the best trial first; what is unknown or not a number comes last."""
    objective = _last_if_unknown(trial["val_objective"])
    return (
        -objective if maximize and objective != math.inf else objective,
        _last_if_unknown(trial["val_loss"]),
        _last_if_unknown(trial["trainable_params"]),
        _last_if_unknown(trial["lr"]),
        *_age(trial),
    )


def _last_if_unknown(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


def _age(trial: Row) -> tuple[int, str]:
    """Sorts the trial ids of a study by number, past 9999 too."""
    return len(trial["trial_id"]), trial["trial_id"]


def _budget(trials: Iterable[Row]) -> float:
    return min(_last_if_unknown(trial["label_budget"]) for trial in trials)


def _row(trial: Row, rank: int | None, scores: Scores | None, best: Scores | None) -> Row:
    """One leaderboard row."""
    test = scores.interval() if scores else None
    known = {column: trial.get(column) for column in SCHEMAS["leaderboard"].names}
    row = known | {"rank": rank}
    if scores is None or test is None:
        return row
    row |= {
        "test_accuracy": test.mean,
        "test_ci_low": test.low,
        "test_ci_high": test.high,
        "repeats": len(scores.repeats),
    }
    difference = scores.minus(best) if best else None
    if difference is not None:
        row |= {
            "diff_to_best": difference.mean,
            "diff_ci_low": difference.low,
            "diff_ci_high": difference.high,
            "tied_with_best": difference.holds_zero,
        }
    return row
