"""One trial: fine-tune the folds of a label budget in lockstep and report what they predict.

Nothing here reads or writes files, prints, or remembers anything between trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from trainable import device as devices
from trainable.augmentation import Augmentation
from trainable.backbones import Backbone
from trainable.boundaries import boundaries, frozen_boundaries, parameter_depths
from trainable.budget import Fold, draw_subset, validation_parts
from trainable.errors import DataError
from trainable.features import FeatureCounts, FeatureReader
from trainable.freezing import SplitBackbone, split
from trainable.graphs import independent_copy
from trainable.heads import Heads, is_bare_head
from trainable.images import LabelledImages, Split
from trainable.keeping import FeatureCache
from trainable.knobs import block_range
from trainable.learner import DivergedError, Examples, Learner, Learners
from trainable.recipe import (
    learning_parameters,
    resolve_batch_size,
    resolve_batchnorm,
    resolve_head_init,
)
from trainable.results import Report, TestResult, TrialFacts
from trainable.scores import score
from trainable.spec import TrialSpec

__all__ = ["DivergedError", "Fitted", "Trial"]

_TESTED_BYTES = 256 * 2**20
"""Activations of test images that are held in memory at a time."""
_PARTS = 20
"""Times that training on the whole budget tells how far it is."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """What a configuration became when it was trained on its whole budget.

    Attributes:
        split: the backbone as it was cut, untrained.
        suffix: activations at the cut -> logits, trained; in eval mode, on the trial's device.
        spec: the recipe; nothing in it is `auto`.
        indices: (M,) int64 of the images that it learnt from.
    """

    split: SplitBackbone
    suffix: fx.GraphModule
    spec: TrialSpec
    indices: npt.NDArray[np.int64]


class Trial:
    """One configuration on one label budget.

    Args:
        spec: the configuration.
        images: all images that it may touch; the subset is drawn from their pool.
        backbone: the one that `spec.backbone` names.
        device: to compute on; the default is the visible GPU, else the CPU.
        cache: where the frozen prefix's activations are kept; None computes them here.

    Raises:
        SpecError, DataError, BackboneError: it cannot be run.
    """

    def __init__(
        self,
        spec: TrialSpec,
        images: LabelledImages,
        backbone: Backbone,
        *,
        device: torch.device | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        self._start = time.perf_counter()
        self._device = device or devices.default_device()
        self._images = images
        self._backbone = backbone
        devices.reset_peak_memory(self._device)
        self.timings = {"setup_s": 0.0, "features_s": 0.0, "train_s": 0.0}
        self._subset = draw_subset(
            images, budget=spec.label_budget, repeat=spec.repeat, seed=spec.seed
        )
        self._spec = spec
        self._image_size = (
            backbone.weights.preprocessing.image_size
            if spec.image_size == "auto"
            else int(spec.image_size)
        )
        self._traced = backbone.traced(self._image_size)
        self._boundaries = boundaries(self._traced)
        frozen = frozen_boundaries(
            len(self._boundaries),
            depth=spec.freeze_depth,
            blocks=spec.frozen_blocks,
            train=block_range(spec.train_blocks),
        )
        self._split = split(self._traced, frozen=frozen, num_classes=images.num_classes)
        self._cache = cache
        self.counts = FeatureCounts()
        self._plain = self._reader()
        self._depths = parameter_depths(self._traced)
        self._learning = learning_parameters(
            spec,
            self._split.suffix,
            head=self._split.head,
            depth_of=self._depths,
            num_boundaries=len(self._boundaries),
        )
        self.timings["setup_s"] = time.perf_counter() - self._start

    def reports(self) -> Iterator[Report]:
        """Train the folds in lockstep; yield `spec.reports` reports, the last at the last step.

        Raises:
            DivergedError: loss or predictions are not finite.
            DataError: the budget cannot pay for validation.
        """
        rows, folds = self._parts()
        spec = self._resolve(min(len(fold.train) for fold in folds))
        examples = self._examples(rows)
        training = examples if self._spec.augment is None else self._views()
        validated = np.concatenate([rows[fold.val] for fold in folds])
        labels = torch.from_numpy(self._images.labels[validated])
        learners = self._learners(
            [training.at(self._view_rows(fold.train)) for fold in folds],
            names=[f"fold{number}" for number in range(len(folds))],
            spec=spec,
        )
        held_out = [
            examples.at(torch.from_numpy(fold.val).to(self._device)).activations for fold in folds
        ]
        for number in range(spec.reports):
            start = time.perf_counter()
            step = round(spec.steps * (number + 1) / spec.reports)
            loss = learners.advance(step)
            scores = score(torch.cat(learners.log_probabilities(held_out)), labels)
            self.timings["train_s"] += time.perf_counter() - start
            yield Report(
                report=number,
                step=step,
                train_loss=loss,
                val_loss=scores.log_loss,
                val_accuracy=scores.accuracy,
                val_balanced_accuracy=scores.balanced_accuracy,
                val_objective=scores.objective(spec.objective),
                elapsed_s=time.perf_counter() - self._start,
            )

    def refit(self) -> TestResult:
        """Train once on the whole budget and predict the test split.

        Raises:
            DivergedError: loss or predictions are not finite.
            DataError: there is no test image.
        """
        test = self._images.indices(Split.TEST)
        if not len(test):
            raise DataError("there is no test image; a refit is always scored on the test split")
        learners = self._train_whole()
        predictions = []
        for some in self._few_at_a_time(test):
            unseen = self._examples(some)
            start = time.perf_counter()
            predictions += learners.log_probabilities([unseen.activations])
            self.timings["train_s"] += time.perf_counter() - start
        return TestResult.of(torch.cat(predictions), torch.from_numpy(self._images.labels[test]))

    def fit(self, watch: Callable[[int], None] | None = None) -> Fitted:
        """Train as `refit` does, and hand out what was trained; no test image is touched.

        Args:
            watch: called now and then with the updates made so far.

        Raises:
            DivergedError: the loss is not finite.
        """
        learners = self._train_whole(watch)
        if isinstance(learners, Heads):
            suffix = independent_copy(self._split.suffix).to(self._device)
            learners.copy_into(suffix.get_submodule(self._split.head))
        else:
            (suffix,) = learners.suffixes
        return Fitted(
            split=self._split,
            suffix=suffix.eval().requires_grad_(requires_grad=False),
            spec=self._resolve(len(self._subset)),
            indices=self._subset,
        )

    def facts(self) -> TrialFacts:
        """What was resolved and counted; needs no training.

        Raises:
            DataError: the budget cannot pay for validation.
        """
        _, folds = self._parts()
        suffix = sum(p.numel() for p in self._split.suffix.parameters())
        boundary = self._split.boundary
        prefix = boundary.params if boundary else 0
        flops = sum(fact.flops for fact in self._traced.facts.values())
        flops -= self._traced.facts[self._traced.head].flops
        num_classes, used = self._images.num_classes, len(self._subset)
        per_class = self._spec.label_budget.per_class
        return TrialFacts(
            spec=self._resolve(min(len(fold.train) for fold in folds)),
            weights=self._backbone.weights.version,
            boundary=boundary.node if boundary else None,
            frozen_boundaries=self._split.frozen,
            num_boundaries=len(self._boundaries),
            prefix_params_fraction=prefix / (prefix + suffix),
            prefix_flops_fraction=boundary.flops / flops if boundary else 0.0,
            trainable_params=sum(p.numel() for p in self._learning.values()),
            total_params=prefix + suffix,
            labels_used=used,
            num_classes=num_classes,
            labels_per_class=float(per_class) if per_class is not None else used / num_classes,
            folds=len(folds),
            num_val=sum(len(fold.val) for fold in folds),
            device=devices.describe(self._device),
        )

    def peak_memory_bytes(self) -> int:
        """Most memory held so far: GPU memory of this trial, or memory of this process."""
        return devices.peak_memory_bytes(self._device)

    def _parts(self) -> tuple[npt.NDArray[np.int64], list[Fold]]:
        return validation_parts(self._images, self._subset, validation=self._spec.validation)

    def _train_whole(self, watch: Callable[[int], None] | None = None) -> Heads | Learners:
        """What was trained on the whole drawn subset."""
        spec = self._resolve(len(self._subset))
        augmented = self._spec.augment is not None
        training = self._views() if augmented else self._examples(self._subset)
        start = time.perf_counter()
        learners = self._learners([training], names=["whole"], spec=spec)
        for part in range(1, _PARTS + 1):
            step = round(spec.steps * part / _PARTS)
            learners.advance(step)
            if watch is not None and step:
                watch(step)
        self.timings["train_s"] += time.perf_counter() - start
        return learners

    def _resolve(self, num_train: int) -> TrialSpec:
        # Behind a convolutional head stands a ReLU, which a head of zeros never gets out of.
        head = self._split.suffix.get_submodule(self._split.head)
        head_only = self._split.frozen == len(self._boundaries)
        zero_head = head_only and isinstance(head, nn.Linear)
        return replace(
            self._spec,
            batch_size=resolve_batch_size(self._spec.batch_size, num_train),
            batchnorm=resolve_batchnorm(self._spec.batchnorm, num_train),
            head_init=resolve_head_init(self._spec.head_init, zero_head=zero_head),
            image_size=self._image_size,
            precision=devices.resolve_precision(self._spec.precision, self._device),
        )

    def _examples(self, indices: npt.NDArray[np.int64]) -> Examples:
        """The images as they are, one row each."""
        return self._read(self._plain, indices)

    def _views(self) -> Examples:
        """The views of the drawn subset, `views` rows an image, one image after another."""
        reader = self._reader(augmentation=self._spec.augment)
        views = self._read(reader, self._subset)
        number = views.activations.shape[1]
        return Examples(views.activations.flatten(0, 1), views.labels.repeat_interleave(number))

    def _read(self, reader: FeatureReader, indices: npt.NDArray[np.int64]) -> Examples:
        start = time.perf_counter()
        activations = reader.read(indices, frozen=self._split.frozen)
        labels = torch.from_numpy(self._images.labels[indices]).to(self._device)
        devices.synchronize(self._device)
        self.timings["features_s"] += time.perf_counter() - start
        return Examples(activations, labels)

    def _reader(self, augmentation: Augmentation | None = None) -> FeatureReader:
        return FeatureReader(
            self._images,
            self._backbone,
            image_size=self._image_size,
            device=self._device,
            precision=devices.resolve_precision(self._spec.precision, self._device),
            cache=self._cache,
            augmentation=augmentation,
            seed=self._spec.seed,
            counts=self.counts,
        )

    def _few_at_a_time(self, indices: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        """The indices in pieces whose activations take little memory."""
        each = self._plain.row_bytes(self._split.frozen)
        size = max(1, _TESTED_BYTES // each)
        for start in range(0, len(indices), size):
            yield indices[start : start + size]

    def _view_rows(self, positions: npt.NDArray[np.int64]) -> Tensor:
        """Rows of the training examples that show the images at some positions of the subset."""
        views = self._spec.augment.views if self._spec.augment else 1
        rows = positions[:, None] * views + np.arange(views)
        return torch.from_numpy(rows.ravel()).to(self._device)

    def _learners(
        self, parts: Sequence[Examples], *, names: Sequence[str], spec: TrialSpec
    ) -> Heads | Learners:
        """One learner for each part."""
        if is_bare_head(self._split.suffix, self._split.head):
            return Heads(parts, names=names, spec=spec, num_classes=self._images.num_classes)
        return Learners(
            [
                Learner(
                    independent_copy(self._split.suffix).to(self._device),
                    self._split.head,
                    part,
                    name=name,
                    spec=spec,
                    depth_of=self._depths,
                    learning=self._learning,
                    num_classes=self._images.num_classes,
                )
                for part, name in zip(parts, names, strict=True)
            ]
        )
