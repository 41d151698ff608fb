"""Baselines for fine-tuning: logistic regression on frozen features, pixels or tf-idf.

A linear probe gets the same data as a trial at freeze depth 1 of the same input size and precision:

- Labels: the same functions of the same seed draw the subset of each repeat, and choose the folds
    or
  holdout of repeat 0 and the test examples.
- Features: the same `FeatureReader` computes float32 rows through the same cache, with the
  preprocessing of the backbone's weights and with BatchNorm layers in eval mode.
- Augmentation: both are validated and tested on examples as they are. A trial may train on views of
  its training images. Views belong to the trial's recipe, as do dropout before the head, the
  optimizer and the precision of the head. Logistic regression has a recipe of its own: it is fitted
  in float64, and the log loss of pooled validation predictions chooses its penalty.

The head of a trial on the same draw starts from the same probe; see `trainable.training.probe`.

If the head is a convolution followed by pooling, the probe takes the mean of the map that the
trial's head is applied to. Both give the same logits, because the head is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

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
from trainable.tasks import Outcomes, Places, Scores, TestResult, joined, task_called
from trainable.training.baseline_features import FeatureBaseline
from trainable.training.baseline_request import BaselineRequest, FeatureOrigin
from trainable.training.dense_baselines import MapBaseline
from trainable.training.logistic import LinearClassifier
from trainable.training.probe import Features, ProbeMemo, parts_of_draw, probe_of_draw

Indices = npt.NDArray[np.int64]


class Baseline(FeatureOrigin, Protocol):
    """What logistic regressions are fitted on, and what becomes of their predictions."""

    def features(self, indices: Indices, places: Places | None) -> Features:
        """Return features of some examples; see `probe_of_draw`."""

    def outcomes(self, classifier: LinearClassifier, drawn: Indices, indices: Indices) -> Outcomes:
        """Return what the predictions of a classifier for M examples leave behind.

        Args:
            classifier: the classifier.
            drawn: (N,) indices of the examples that it was fitted on.
            indices: (M,) indices of the examples.
        """


_KINDS: Mapping[str, type[FeatureBaseline] | type[MapBaseline]] = {
    "classification": FeatureBaseline,
    "segmentation": MapBaseline,
}
"""Task -> its baselines."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineResult:
    """The result of a baseline on one label budget.

    Attributes:
        inverse_penalties: inverse penalty C of each repeat, chosen by validation within its draw.
        validation: scores of the pooled validation predictions of repeat 0.
        tests: one test result per repeat, of a probe fitted on the whole draw of that repeat.
        num_features: length of a feature vector.
        labels_used: number of examples drawn for repeat 0.
        folds: number of folds of repeat 0.
        size: size of the inputs: the side of images in pixels, or the most tokens of a text; None
            if it does not apply.
        precision: precision of the backbone's forward pass, `fp32` or `bf16`; `fp32` without a
            backbone.
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
    method: str | None = None,
    size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    probes: ProbeMemo | None = None,
    all_probabilities: bool = False,
    heartbeat: Callable[[], None] = nothing,
) -> BaselineResult:
    """Fit and test a probe on the draw of every repeat; validation within a draw chooses its C.

    Args:
        images: all labelled examples, those of the test split included.
        backbone: the backbone whose last boundary gives the features; None for features without
            one.
        budget: labels for training and validation together.
        validation: where validation examples come from, as for trials.
        repeats: number of draws.
        seed: seed of the sweep.
        method: name of the baseline, where there are several without a backbone.
        size: size of the backbone's input; None for the size of its weights.
        precision: precision of the backbone's forward pass: `fp32`, `bf16` or `auto`.
        device: the device to compute on; None for the visible GPU, else the CPU.
        cache: the feature cache; None computes the features here.
        counts: counters of cache hits and misses to add to.
        probes: memo of probes, shared with trials; None fits the probes here.
        all_probabilities: whether results hold the probabilities of all classes.
        heartbeat: called regularly while there is progress, as a sign of life.

    Raises:
        DataError: the budget is too small for validation, or there is no test example.
        GpuMemoryError: the GPU's memory is too small for what cannot be cut into micro-batches.
    """
    device = device or devices.default_device()
    task = task_called(images.task)
    draws = [
        draw_subset(images, budget=budget, repeat=repeat, seed=seed) for repeat in range(repeats)
    ]
    test = images.indices(Split.TEST)
    if not len(test):
        noun = images.modality
        raise DataError(f"there is no test {noun}; a baseline is always scored on the test split")
    rows, folds = validation_parts(images, draws[0], validation=validation)
    looked_at = [parts_of_draw(images, draw, validation)[0] for draw in draws]
    asked = BaselineRequest(
        examples=images,
        touched=np.unique(np.concatenate([*looked_at, test])),
        method=method,
        backbone=backbone,
        size=size,
        precision=precision,
        device=device,
        cache=cache,
        counts=counts,
        heartbeat=heartbeat,
    )
    baseline: Baseline = _KINDS[images.task](asked)
    fitted = [
        probe_of_draw(
            images,
            draw,
            validation=validation,
            features=baseline.features,
            seed=seed,
            device=device,
            features_key=baseline.key,
            memo=probes,
            heartbeat=heartbeat,
        )
        for draw in draws
    ]
    tests = [
        task.result(baseline.outcomes(probe.whole, draw, test), all_probabilities=all_probabilities)
        for draw, probe in zip(draws, fitted, strict=True)
    ]
    scores: Scores | None = fitted[0].validation
    if scores is None:
        of_folds = [
            baseline.outcomes(classifier, rows[fold.train], rows[fold.val])
            for classifier, fold in zip(fitted[0].folds, folds, strict=True)
        ]
        scores = task.scores(joined(of_folds))
    return BaselineResult(
        inverse_penalties=tuple(probe.inverse_penalty for probe in fitted),
        validation=scores,
        tests=tuple(tests),
        num_features=fitted[0].whole.weight.shape[1],
        labels_used=len(draws[0]),
        folds=len(folds),
        size=baseline.size,
        precision=baseline.precision,
    )
