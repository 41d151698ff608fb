"""Test answers of the recommended configuration: its classes, confusion and mistakes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.reading.report.contents import Row

MOST_MISTAKES = 18
"""Largest number of mistakes that are shown."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image that the winner misclassified in some repeat.

    Attributes:
        image_id: hash of its content.
        path: its path, or its name in the source.
        label: its class.
        predicted: the most frequent wrong prediction.
        wrong: number of repeats with a wrong prediction.
        repeats: number of repeats.
        label_probability: mean probability of the right class.
    """

    image_id: str
    path: str
    label: str
    predicted: str
    wrong: int
    repeats: int
    label_probability: float


@dataclass(frozen=True, kw_only=True)
class Winner:
    """Test answers of the configuration that the answer recommends.

    Attributes:
        row: its row of the leaderboard.
        classes: names, in the order of `confusion`.
        confusion: (C, C) number of answers by true and predicted class, over all repeats.
        mistakes: misclassified images, in ascending order of `label_probability`.
    """

    row: Row
    classes: list[str]
    confusion: npt.NDArray[np.int64]
    mistakes: list[Mistake]

    @property
    def class_accuracy(self) -> list[tuple[str, float, int]]:
        """Name, accuracy and number of answers of each class in the test set, the worst first."""
        found = [
            (name, float(line[number] / line.sum()), int(line.sum()))
            for number, (name, line) in enumerate(zip(self.classes, self.confusion, strict=True))
            if line.sum()
        ]
        return sorted(found, key=lambda one: (one[1], one[0]))


def winner(row: Row, predictions: pa.Table) -> Winner | None:
    """Return the test answers of a configuration; None if it was not scored there.

    Args:
        row: its row of the leaderboard.
        predictions: predictions of its sweep.
    """
    its = predictions.filter(pc.equal(predictions["trial_id"], row["trial_id"]))
    if not its.num_rows:
        return None
    label, predicted = (np.array(its[name].to_pylist()) for name in ("label", "predicted"))
    classes = sorted({*label.tolist(), *predicted.tolist()})
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (np.searchsorted(classes, label), np.searchsorted(classes, predicted)), 1)
    return Winner(row=row, classes=classes, confusion=confusion, mistakes=_mistakes(its))


def _mistakes(its: pa.Table) -> list[Mistake]:
    """Return the misclassified images, those with the least mean probability first."""
    answers: dict[str, list[Row]] = defaultdict(list)
    for row in its.to_pylist():
        answers[row["image_id"]].append(row)
    found = []
    for image_id, some in answers.items():
        wrong = [row["predicted"] for row in some if row["predicted"] != row["label"]]
        if wrong:
            found.append(
                Mistake(
                    image_id=image_id,
                    path=some[0]["path"],
                    label=some[0]["label"],
                    predicted=max(sorted(set(wrong)), key=wrong.count),
                    wrong=len(wrong),
                    repeats=len(some),
                    label_probability=float(np.mean([row["label_probability"] for row in some])),
                )
            )
    return sorted(found, key=lambda one: (one.label_probability, one.image_id))[:MOST_MISTAKES]
