"""What fine-tuning has to beat: logistic regression on frozen features, and on raw pixels.

A probe is given what a trial at freeze depth 1 is given, of its image size and precision:

- labels: the draw of each repeat, the folds or holdout of the first, and the test images come from
  the same functions of the same seed;
- images: float32 rows come from the same `FeatureReader`, and so from the same cache, with the
  preprocessing of the backbone's weights and its BatchNorm layers in eval mode;
- augmentation: both are validated and tested on the images as they are. A trial trains on views of
  its training images; that belongs to its recipe, as do dropout before the head, its optimizer and
  the precision of the head itself. Logistic regression has a recipe of its own, in float64: a
  penalty, chosen by the objective on pooled predictions such as a trial is judged by.

Where a convolution is the head, with its pooling behind it, a probe takes the mean of the map that
the trial's head slides over. A linear head gives the same logits either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable import device as devices
from trainable.backbones import Backbone, Preprocessing
from trainable.boundaries import boundaries
from trainable.budget import draw_subset, validation_parts
from trainable.decoding import smallest_side
from trainable.errors import DataError
from trainable.features import FeatureCounts, FeatureReader
from trainable.images import LabelledImages, Split
from trainable.keeping import FeatureCache
from trainable.logistic import fit_path
from trainable.memory import memory_errors, nothing
from trainable.pixels import PixelReader
from trainable.results import TestResult
from trainable.scores import Scores, score
from trainable.spec import LabelBudget, Metric, Validation

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths C tried, in the sense of scikit-learn: the larger, the weaker the penalty."""

MAX_PIXELS = 32
"""Longest side of the images that the `pixels` baseline sees."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineResult:
    """A baseline on one label budget.

    Attributes:
        inverse_penalty: the C chosen by the validation of repeat 0.
        validation: scores of the pooled validation predictions at that C.
        tests: one result a repeat, each fitted on that repeat's whole draw.
        num_features: length of a feature vector.
        labels_used: images drawn for repeat 0.
        folds: validation parts.
        image_size: side in pixels of the images seen.
        precision: of the backbone's forward pass, `fp32` or `bf16`; pixels are fp32.
    """

    inverse_penalty: float
    validation: Scores
    tests: tuple[TestResult, ...]
    num_features: int
    labels_used: int
    folds: int
    image_size: int
    precision: str


@memory_errors("baseline")
def run_baseline(
    images: LabelledImages,
    *,
    backbone: Backbone | None,
    budget: LabelBudget,
    validation: Validation,
    objective: Metric,
    repeats: int,
    seed: int,
    image_size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    beat: Callable[[], None] = nothing,
) -> BaselineResult:
    """Choose C inside the budget of repeat 0, then fit and test on every repeat's draw.

    Args:
        images: pool and test images.
        backbone: whose last boundary gives the features; None for raw pixels.
        budget: labels for training and validation together.
        validation: the same as of the trials.
        objective: what C is chosen by; ties go to the lower log loss, then to the stronger
            regularisation.
        repeats: draws tested.
        seed: of the sweep.
        image_size: side in pixels that a backbone sees; None for its own. Pixels are taken at the
            smallest image's side, at most `MAX_PIXELS`.
        precision: of the backbone's forward pass, resolved as for trials.
        device: to compute on.
        cache: where a backbone's features are kept; None computes them here.
        counts: adds up what that takes.
        beat: called now and then while there is progress, as a sign of life.

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
    looked_at, folds = validation_parts(images, draws[0], validation=validation)
    touched = np.unique(np.concatenate([looked_at, *draws, test]))
    size = _seen_size(images, touched, backbone, image_size)
    precision = "fp32" if backbone is None else devices.resolve_precision(precision, where)
    features = _features(
        images,
        touched,
        backbone,
        image_size=size,
        precision=precision,
        device=where,
        cache=cache,
        counts=counts,
        beat=beat,
    )
    labels = torch.from_numpy(images.labels[touched]).to(where)

    def rows(indices: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.searchsorted(touched, indices)).to(where)

    first = rows(looked_at)
    predictions: list[list[Tensor]] = [[] for _ in INVERSE_PENALTIES]
    for fold in folds:
        train, val = first[fold.train], first[fold.val]
        fitted = fit_path(
            features[train],
            labels[train],
            num_classes=images.num_classes,
            inverse_penalties=INVERSE_PENALTIES,
            beat=beat,
        )
        for collected, classifier in zip(predictions, fitted, strict=True):
            collected.append(classifier.log_probabilities(features[val]))
    truth = torch.cat([labels[first[fold.val]] for fold in folds]).cpu()
    scores = [score(torch.cat(collected).cpu(), truth) for collected in predictions]
    chosen = _best(scores, objective)
    tests = []
    for draw in draws:
        train = rows(draw)
        (classifier,) = fit_path(
            features[train],
            labels[train],
            num_classes=images.num_classes,
            inverse_penalties=[INVERSE_PENALTIES[chosen]],
            beat=beat,
        )
        unseen = rows(test)
        tests.append(
            TestResult.of(
                classifier.log_probabilities(features[unseen]).cpu(), labels[unseen].cpu()
            )
        )
    return BaselineResult(
        inverse_penalty=INVERSE_PENALTIES[chosen],
        validation=scores[chosen],
        tests=tuple(tests),
        num_features=features.shape[1],
        labels_used=len(draws[0]),
        folds=len(folds),
        image_size=size,
        precision=precision,
    )


def baseline_features(
    images: LabelledImages,
    indices: npt.NDArray[np.int64],
    backbone: Backbone | None,
    *,
    image_size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    counts: FeatureCounts | None = None,
    beat: Callable[[], None] = nothing,
) -> Tensor:
    """What a baseline classifies: what reaches a backbone's head, or pixels on the 0..1 scale.

    Args:
        images: where the encoded bytes lie.
        indices: (M,) which of them.
        backbone: None for pixels.
        image_size: see `run_baseline`; it does not matter to pixels.
        precision: see `run_baseline`.
        device: to compute on.
        cache: see `run_baseline`.
        counts: see `run_baseline`.
        beat: see `run_baseline`.

    Returns:
        (M, D) floats.
    """
    device = device or devices.default_device()
    return _features(
        images,
        indices,
        backbone,
        image_size=_seen_size(images, indices, backbone, image_size),
        precision=devices.resolve_precision(precision, device),
        device=device,
        cache=cache,
        counts=counts,
        beat=beat,
    )


def _seen_size(
    images: LabelledImages,
    indices: npt.NDArray[np.int64],
    backbone: Backbone | None,
    image_size: int | None,
) -> int:
    if backbone is None:
        return min(MAX_PIXELS, smallest_side(images, indices))
    return image_size or backbone.weights.preprocessing.image_size


def _features(
    images: LabelledImages,
    indices: npt.NDArray[np.int64],
    backbone: Backbone | None,
    *,
    image_size: int,
    precision: str,
    device: torch.device,
    cache: FeatureCache | None,
    counts: FeatureCounts | None,
    beat: Callable[[], None],
) -> Tensor:
    """See `baseline_features`; size and precision are resolved."""
    if backbone is None:
        how = Preprocessing(image_size, image_size)
        pixels, _ = PixelReader(images, how, cache=cache, beat=beat).read(indices)
        return torch.from_numpy(pixels).to(device).flatten(1).float() / 255
    reader = FeatureReader(
        images,
        backbone,
        image_size=image_size,
        device=device,
        precision=precision,
        cache=cache,
        counts=counts,
        beat=beat,
    )
    values = reader.read(indices, frozen=len(boundaries(backbone.traced(image_size))))
    return values.mean(dim=(2, 3)) if values.ndim == 4 else values.flatten(1)


def _best(scores: Sequence[Scores], objective: Metric) -> int:
    """Index of the best score; of equal ones the lower log loss, then the first."""
    sign = -1 if objective.maximize else 1
    return min(
        range(len(scores)),
        key=lambda i: (sign * scores[i].objective(objective), scores[i].log_loss),
    )
