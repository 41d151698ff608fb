"""Baselines for fine-tuning: logistic regression on frozen features, and on raw pixels.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable import device as devices
from trainable.backbones import Backbone, Preprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.errors import DataError
from trainable.features.cache import FeatureCache
from trainable.features.input_reader import PixelReader
from trainable.features.reader import FeatureCounts, FeatureReader
from trainable.micro_batches import memory_errors, nothing
from trainable.modalities.image.preprocessing import smallest_side
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation
from trainable.training.probe import ProbeMemo, parts_of_draw, probe_of_draw
from trainable.training.results import TestResult
from trainable.training.scores import Scores

Indices = npt.NDArray[np.int64]

MAX_PIXELS = 32
"""Longest side of the images that the `pixels` baseline sees."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineResult:
    """A baseline on one label budget.

    Attributes:
        inverse_penalties: the C of each repeat, chosen by the validation of its own draw.
        validation: scores of the pooled validation predictions of repeat 0.
        tests: one result a repeat, each fitted on that repeat's whole draw.
        num_features: length of a feature vector.
        labels_used: images drawn for repeat 0.
        folds: validation parts.
        image_size: side in pixels of the images seen.
        precision: of the backbone's forward pass, `fp32` or `bf16`; pixels are fp32.
    """

    inverse_penalties: tuple[float, ...]
    validation: Scores
    tests: tuple[TestResult, ...]
    num_features: int
    labels_used: int
    folds: int
    image_size: int
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
    image_size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    probes: ProbeMemo | None = None,
    heartbeat: Callable[[], None] = nothing,
) -> BaselineResult:
    """Fit and test a probe on every repeat's draw; its C is chosen inside the draw.

    Args:
        images: pool and test images.
        backbone: whose last boundary gives the features; None for raw pixels.
        budget: labels for training and validation together.
        validation: the same as of the trials.
        repeats: draws tested.
        seed: of the sweep.
        image_size: side in pixels that a backbone sees; None for its own. Pixels are taken at the
            smallest image's side, at most `MAX_PIXELS`.
        precision: of the backbone's forward pass, resolved as for trials.
        device: to compute on.
        cache: where a backbone's features are kept; None computes them here.
        counts: adds up what that takes.
        probes: remembers the probes of a backbone for trials; None fits them for this alone.
        heartbeat: called now and then while there is progress, as a sign of life.

    Raises:
        DataError: the budget cannot pay for validation, or there is no test image.
        GpuMemoryError: the GPU's memory does not hold what cannot be cut into pieces.
    """
    where = device or devices.default_device()
    draws = [
        draw_subset(images, budget=budget, repeat=repeat, seed=seed) for repeat in range(repeats)
    ]
    test = images.indices(Split.TEST)
    if not len(test):
        raise DataError("there is no test image; a baseline is always scored on the test split")
    _, folds = validation_parts(images, draws[0], validation=validation)
    looked_at = [parts_of_draw(images, draw, validation)[0] for draw in draws]
    touched = np.unique(np.concatenate([*looked_at, test]))
    size = _seen_size(images, touched, backbone, image_size)
    precision = "fp32" if backbone is None else devices.resolve_precision(precision, where)
    inputs = _inputs(
        images,
        backbone,
        image_size=size,
        precision=precision,
        device=where,
        cache=cache,
        counts=counts,
        heartbeat=heartbeat,
    )
    features = inputs.read(touched)

    def at(indices: Indices) -> Tensor:
        return features[torch.from_numpy(np.searchsorted(touched, indices)).to(where)]

    fitted = [
        probe_of_draw(
            images,
            draw,
            validation=validation,
            features=at,
            features_key=inputs.key,
            memo=probes,
            heartbeat=heartbeat,
        )
        for draw in draws
    ]
    unseen, labels = at(test), torch.from_numpy(images.labels[test])
    tests = [
        TestResult.of(probe.whole.to(where).log_probabilities(unseen).cpu(), labels)
        for probe in fitted
    ]
    scores = fitted[0].validation
    assert scores is not None  # of the folds above
    return BaselineResult(
        inverse_penalties=tuple(probe.inverse_penalty for probe in fitted),
        validation=scores,
        tests=tuple(tests),
        num_features=features.shape[1],
        labels_used=len(draws[0]),
        folds=len(folds),
        image_size=size,
        precision=precision,
    )


def baseline_features(
    images: LabelledExamples,
    indices: Indices,
    backbone: Backbone | None,
    *,
    image_size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    heartbeat: Callable[[], None] = nothing,
) -> Tensor:
    """Feature vectors of a baseline: inputs of a backbone's head, or pixels on the 0..1 scale.

    Args:
        images: where the encoded bytes lie.
        indices: (M,) which of them.
        backbone: None for pixels.
        image_size: see `run_baseline`; it does not matter to pixels.
        precision: see `run_baseline`.
        device: to compute on.
        cache: see `run_baseline`.
        counts: see `run_baseline`.
        heartbeat: see `run_baseline`.

    Returns:
        (M, D) floats.
    """
    device = device or devices.default_device()
    return _inputs(
        images,
        backbone,
        image_size=_seen_size(images, indices, backbone, image_size),
        precision=devices.resolve_precision(precision, device),
        device=device,
        cache=cache,
        counts=counts,
        heartbeat=heartbeat,
    ).read(indices)


def _seen_size(
    images: LabelledExamples,
    indices: Indices,
    backbone: Backbone | None,
    image_size: int | None,
) -> int:
    if backbone is None:
        return min(MAX_PIXELS, smallest_side(images, indices))
    return image_size or backbone.weights.preprocessing.size


@dataclass(frozen=True)
class _Inputs:
    """Feature vectors of a baseline and where they come from.

    Attributes:
        read: gives the (M, D) floats of some images.
        key: JSON values that they depend on, the content of the images aside.
    """

    read: Callable[[Indices], Tensor]
    key: Mapping[str, Any]


def _inputs(
    images: LabelledExamples,
    backbone: Backbone | None,
    *,
    image_size: int,
    precision: str,
    device: torch.device,
    cache: FeatureCache | None,
    counts: FeatureCounts | None,
    heartbeat: Callable[[], None],
) -> _Inputs:
    """See `baseline_features`; size and precision are resolved."""
    if backbone is None:
        pixels = PixelReader(
            images, Preprocessing(image_size, image_size), cache=cache, heartbeat=heartbeat
        )

        def read(indices: Indices) -> Tensor:
            rows, _ = pixels.read(indices)
            return torch.from_numpy(rows).to(device).flatten(1).float() / 255

        return _Inputs(read, {"pixels": pixels.key})
    reader = FeatureReader(
        images,
        backbone,
        image_size=image_size,
        device=device,
        precision=precision,
        cache=cache,
        counts=counts,
        heartbeat=heartbeat,
    )
    return _Inputs(reader.head_inputs, reader.head_inputs_key)
