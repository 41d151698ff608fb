"""Baselines for fine-tuning: logistic regression on frozen features, or without a backbone.

A probe is given what a trial at freeze depth 1 is given, of its image size and precision:

- labels: the draw of each repeat, the folds or holdout of the first, and the test images come from
  the same functions of the same seed;
- images: float32 rows come from the same `FeatureReader`, and so from the same cache, with the
  preprocessing of the backbone's weights and its BatchNorm layers in eval mode;
- augmentation: both are validated and tested on the images as they are. A trial trains on views of
  its training images; that belongs to its recipe, as do dropout before the head, its optimizer and
  the precision of the head itself. Logistic regression has a recipe of its own, in float64: a
  penalty, chosen by the log loss of pooled predictions such as a trial is judged by.

It is the very probe that the head of a trial on the same draw starts from; see
`trainable.training.probe`.

Where a convolution is the head, with its pooling behind it, a probe takes the mean of the map that
the trial's head slides over. A linear head gives the same logits either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.errors import DataError
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts
from trainable.micro_batches import memory_errors, nothing
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation
from trainable.training.baseline_features import (
    WITHOUT_BACKBONE,
    BaselineFeatures,
    FrozenFeatures,
)
from trainable.training.probe import Features, ProbeMemo, parts_of_draw, probe_of_draw
from trainable.training.results import TestResult
from trainable.training.scores import Scores

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineResult:
    """A baseline on one label budget.

    Attributes:
        inverse_penalties: the C of each repeat, chosen by the validation of its own draw.
        validation: scores of the pooled validation predictions of repeat 0.
        tests: one result a repeat, each fitted on that repeat's whole draw.
        num_features: length of a feature vector.
        labels_used: examples drawn for repeat 0.
        folds: validation parts.
        size: size of the inputs seen, of images their side in pixels; None if it does not apply.
        precision: of the backbone's forward pass, `fp32` or `bf16`; pixels are fp32.
    """

    inverse_penalties: tuple[float, ...]
    validation: Scores
    tests: tuple[TestResult, ...]
    num_features: int
    labels_used: int
    folds: int
    size: int | None
    precision: str


@memory_errors("baseline")
def run_baseline(
    images: LabelledExamples,
    *,
    backbone: Backbone | None,
    budget: LabelBudget,
    validation: Validation,
    repeats: int,
    seed: int,
    size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    probes: ProbeMemo | None = None,
    all_probabilities: bool = False,
    heartbeat: Callable[[], None] = nothing,
) -> BaselineResult:
    """Fit and test a probe on every repeat's draw; its C is chosen inside the draw.

    Args:
        images: pool and test examples.
        backbone: whose last boundary gives the features; None for the features of
            `WITHOUT_BACKBONE`.
        budget: labels for training and validation together.
        validation: the same as of the trials.
        repeats: draws tested.
        seed: of the sweep.
        size: size of a backbone's input; None for its own.
        precision: of the backbone's forward pass, resolved as for trials.
        device: to compute on.
        cache: where a backbone's features are kept; None computes them here.
        counts: adds up what that takes.
        probes: remembers the probes of a backbone for trials; None fits them for this alone.
        all_probabilities: whether the results have the probabilities of all classes.
        heartbeat: called now and then while there is progress, as a sign of life.

    Raises:
        DataError: the budget cannot pay for validation, or there is no test image.
        GpuMemoryError: the GPU's memory does not hold what cannot be cut into pieces.
    """
    device = device or devices.default_device()
    draws = [
        draw_subset(images, budget=budget, repeat=repeat, seed=seed) for repeat in range(repeats)
    ]
    test = images.indices(Split.TEST)
    if not len(test):
        noun = images.modality
        raise DataError(f"there is no test {noun}; a baseline is always scored on the test split")
    _, folds = validation_parts(images, draws[0], validation=validation)
    looked_at = [parts_of_draw(images, draw, validation)[0] for draw in draws]
    touched = np.unique(np.concatenate([*looked_at, test]))
    made: BaselineFeatures = (
        WITHOUT_BACKBONE[images.modality](
            images, touched, device=device, cache=cache, heartbeat=heartbeat
        )
        if backbone is None
        else FrozenFeatures(
            images,
            backbone,
            size=size,
            precision=precision,
            device=device,
            cache=cache,
            counts=counts,
            heartbeat=heartbeat,
        )
    )
    features = made.of(touched)

    def among(rows: Indices) -> Features:
        places = np.searchsorted(touched, rows)
        return lambda train, others: features(places[train], places[others])

    fitted = [
        probe_of_draw(
            images,
            draw,
            validation=validation,
            features=among,
            device=device,
            features_key=made.key,
            memo=probes,
            heartbeat=heartbeat,
        )
        for draw in draws
    ]
    labels = torch.from_numpy(images.labels[test])
    tests = []
    for draw, probe in zip(draws, fitted, strict=True):
        _, unseen = features(np.searchsorted(touched, draw), np.searchsorted(touched, test))
        predictions = probe.whole.to(device).log_probabilities(unseen).cpu()
        tests.append(TestResult.of(predictions, labels, all_probabilities=all_probabilities))
    scores = fitted[0].validation
    assert scores is not None  # of the folds above
    return BaselineResult(
        inverse_penalties=tuple(probe.inverse_penalty for probe in fitted),
        validation=scores,
        tests=tuple(tests),
        num_features=fitted[0].whole.weight.shape[1],
        labels_used=len(draws[0]),
        folds=len(folds),
        size=made.size,
        precision=made.precision,
    )
