"""The linear probe of a drawn subset: a baseline, and the initial head of trials.

Its features are the head's inputs for the images as they are, without augmentation. The probe
therefore does not depend on the freeze depth, and all trials on a draw can start from the same one
(Kumar et al., Fine-Tuning can Distort Pretrained Features, 2022, LP-FT).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.subsets import Fold, validation_parts
from trainable.errors import DataError
from trainable.micro_batches import nothing
from trainable.spec.validation import Validation
from trainable.tasks import Places, task_called
from trainable.tasks.classification.scores import ClassScores, log_loss, score
from trainable.training.logistic import LinearClassifier, fit_path

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Inverse penalties C that are tried; as in scikit-learn, a larger C is a weaker penalty."""

UNVALIDATED_PENALTY = 1.0
"""C of a draw that has no validation images: scikit-learn's default."""

_HOPELESS = 1.1

MEMO_BYTES = 256 * 2**20
"""Most bytes that the classifiers of a `ProbeMemo` take."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Logistic regressions on one draw of labels, all with the same penalty.

    Attributes:
        inverse_penalty: C, chosen by the log loss of the pooled validation predictions.
        validation: scores of these predictions; None if the draw has no folds, or if an example has
            several rows.
        folds: one classifier per fold, fitted on the fold's training images; on the CPU.
        whole: classifier fitted on the whole draw; on the CPU.
    """

    inverse_penalty: float
    validation: ClassScores | None
    folds: tuple[LinearClassifier, ...]
    whole: LinearClassifier

    @property
    def num_bytes(self) -> int:
        """Memory of all classifiers, in bytes."""
        return sum(one.weight.nbytes + one.bias.nbytes for one in (*self.folds, self.whole))


def parts_of_draw(
    images: LabelledExamples, subset: Indices, validation: Validation
) -> tuple[Indices, list[Fold]]:
    """The images that the probe of a draw is fitted and validated on, and its folds.

    If the data has no validation images of the kind that `validation` names, the draw is
    cross-validated instead. If that is impossible too, because a class has a single label or group,
    the draw has no folds.

    Args:
        images: all labelled images.
        subset: (M,) int64 indices of the drawn subset.
        validation: where validation images come from.

    Returns:
        See `validation_parts`.
    """
    for way in (validation, Validation()):
        with contextlib.suppress(DataError):
            return validation_parts(images, subset, validation=way)
    return subset, []


Features = Callable[[Indices, Indices], tuple[Tensor, Tensor]]
"""Takes positions of N training and of M other examples; returns (N, D) and (M, D) features, or
K times as many rows where an example has K places. Features of an example may depend on the
training examples, as a vocabulary does, but not on other examples."""


def fit_probe(
    features: Features,
    labels: Tensor,
    *,
    folds: Sequence[Fold],
    num_drawn: int,
    num_classes: int,
    heartbeat: Callable[[], None] = nothing,
) -> Probe:
    """Choose C on the folds, then fit a classifier with this C on the whole draw.

    The chosen C has the lowest log loss of the pooled validation predictions; on ties it is the
    smaller C. Without folds it is `UNVALIDATED_PENALTY`. Where examples have places, an example
    counts by the mean of its places, and C is no longer raised once the loss is `_HOPELESS` times
    the lowest: fits with a weak penalty take longest.

    Args:
        features: returns features of examples by their positions; the draw comes first.
        labels: (N,) int64 class ids of all examples, on the device of the features; (N, K) of
            their places.
        folds: positions of training and validation examples; may be empty.
        num_drawn: number of examples in the draw.
        num_classes: number of classes.
        heartbeat: called regularly while there is progress, as a sign of life.
    """
    is_dense = labels.ndim > 1

    def fit(
        rows: Tensor, positions: Indices, inverse_penalties: Sequence[float]
    ) -> Iterator[LinearClassifier]:
        return fit_path(
            rows,
            labels[at(positions)].flatten(),
            num_classes=num_classes,
            inverse_penalties=inverse_penalties,
            num_examples=len(positions),
            heartbeat=heartbeat,
        )

    def at(positions: Indices) -> Tensor:
        return torch.from_numpy(positions).to(labels.device)

    inverse_penalty, scores = UNVALIDATED_PENALTY, None
    fitted: list[LinearClassifier] = []
    if folds:
        parts = [features(fold.train, fold.val) for fold in folds]
        paths = [
            fit(rows, fold.train, INVERSE_PENALTIES)
            for (rows, _), fold in zip(parts, folds, strict=True)
        ]
        truth = torch.cat([labels[at(fold.val)].flatten() for fold in folds]).cpu()
        lowest, best = math.inf, truth[:0]
        for candidate, *classifiers in zip(INVERSE_PENALTIES, *paths, strict=True):
            of_folds = zip(classifiers, parts, strict=True)
            predicted = torch.cat(
                [one.log_probabilities(unseen) for one, (_, unseen) in of_folds]
            ).cpu()
            loss = log_loss(predicted, truth)
            if loss < lowest:
                lowest, best = loss, predicted
                inverse_penalty, fitted = candidate, classifiers
            elif is_dense and loss > _HOPELESS * lowest:
                break
        scores = None if is_dense else score(best, truth)
    drawn = np.arange(num_drawn)
    rows, _ = features(drawn, drawn[:0])
    (whole,) = fit(rows, drawn, [inverse_penalty])
    return Probe(
        inverse_penalty=inverse_penalty,
        validation=scores,
        folds=tuple(classifier.to("cpu") for classifier in fitted),
        whole=whole.to("cpu"),
    )


def fixed(rows: Tensor) -> Features:
    """Return features that do not depend on the training examples.

    Args:
        rows: (N, D) features of all examples, or (N, K, D) of their places.
    """

    def at(positions: Indices) -> Tensor:
        return rows[torch.from_numpy(positions).to(rows.device)].flatten(0, -2)

    return lambda train, others: (at(train), at(others))


class ProbeMemo:
    """Remembers probes, so that the trials of a process fit each probe only once.

    The least recently used probes are forgotten first.

    Args:
        most_bytes: most bytes that the probes may take.
    """

    def __init__(self, most_bytes: int = MEMO_BYTES) -> None:
        self._most_bytes = most_bytes
        self._probes: OrderedDict[str, Probe] = OrderedDict()

    def get(self, key: str, fit: Callable[[], Probe]) -> Probe:
        """Return the probe of a key; it is fitted unless it is remembered.

        Args:
            key: text that identifies everything that the probe depends on.
            fit: fits the probe.
        """
        probe = self._probes.pop(key, None) or fit()
        self._probes[key] = probe
        while sum(one.num_bytes for one in self._probes.values()) > self._most_bytes:
            self._probes.popitem(last=False)
        return probe


def probe_of_draw(
    images: LabelledExamples,
    subset: Indices,
    *,
    validation: Validation,
    features: Callable[[Indices, Places | None], Features],
    seed: int,
    device: torch.device,
    features_key: Mapping[str, Any],
    memo: ProbeMemo | None = None,
    heartbeat: Callable[[], None] = nothing,
) -> Probe:
    """Return the probe of a drawn subset; see `fit_probe`.

    Args:
        images: all labelled images.
        subset: (M,) int64 indices of the drawn subset.
        validation: where validation images come from; see `parts_of_draw`.
        features: takes indices of images, and the places within them at which a head is fitted,
            None where it is fitted on whole images; returns features by positions within these
            indices.
        seed: seed of the sweep, by which places are chosen.
        device: the device of the features.
        features_key: JSON values that features depend on, apart from the images' content.
        memo: memo of probes; None fits the probe here.
        heartbeat: called regularly while there is progress, as a sign of life.
    """
    rows, folds = parts_of_draw(images, subset, validation)

    def fit() -> Probe:
        places = task_called(images.task).places(images, rows, drawn=len(subset), seed=seed)
        labels = torch.from_numpy(images.labels[rows]) if places is None else places.labels
        return fit_probe(
            features(rows, places),
            labels.to(device),
            folds=folds,
            num_drawn=len(subset),
            num_classes=images.num_classes,
            heartbeat=heartbeat,
        )

    if memo is None:
        return fit()
    parts = [subset, *(rows[part] for fold in folds for part in (fold.train, fold.val))]
    key = {"features": dict(features_key), "images": images.fingerprint_of(parts), "seed": seed}
    return memo.get(json.dumps(key, sort_keys=True), fit)
