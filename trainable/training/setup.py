"""One configuration on one backbone: the cut, the learners, and the values of `auto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import fx

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries, parameter_depths
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.graph import independent_copy
from trainable.data.subsets import Fold
from trainable.micro_batches import Memory
from trainable.spec.settings import block_range
from trainable.spec.trial_spec import TrialSpec
from trainable.training.head_learner import HeadLearners, is_bare_head
from trainable.training.learner import Examples
from trainable.training.logistic import LinearClassifier
from trainable.training.recipe import (
    learning_parameters,
    resolve_batch_size,
    resolve_batchnorm,
    resolve_head_init,
)
from trainable.training.results import TrialFacts
from trainable.training.suffix_learner import SuffixLearner, SuffixLearners


def num_frozen(spec: TrialSpec, num_boundaries: int) -> int:
    """Number of a backbone's boundaries that a spec freezes.

    Raises:
        SpecError: it names more than there are.
    """
    return frozen_boundaries(
        num_boundaries,
        depth=spec.freeze_depth,
        blocks=spec.frozen_blocks,
        train=block_range(spec.train_blocks),
    )


class TrialSetup:
    """A spec resolved on one backbone: the split, the learners, the settings.

    Args:
        spec: the configuration.
        backbone: the one that `spec.backbone` names.
        num_classes: outputs of the new head.
        device: to compute on.

    Attributes:
        spec: as given.
        backbone: as given.
        image_size: side of the backbone's input, in pixels.
        split: the backbone as it is cut, with a new head.

    Raises:
        SpecError, BackboneError: it cannot be cut there.
    """

    def __init__(
        self, spec: TrialSpec, backbone: Backbone, *, num_classes: int, device: torch.device
    ) -> None:
        self.spec = spec
        self.backbone = backbone
        self.image_size = (
            backbone.weights.preprocessing.size
            if spec.image_size == "auto"
            else int(spec.image_size)
        )
        self._num_classes = num_classes
        self._device = device
        self._traced = backbone.traced(self.image_size)
        self._boundaries = boundaries(self._traced)
        frozen = num_frozen(spec, len(self._boundaries))
        self.split = split(self._traced, frozen=frozen, num_classes=num_classes)
        self._depths = parameter_depths(self._traced)
        self._learning = learning_parameters(
            spec,
            self.split.suffix,
            head=self.split.head,
            depth_of=self._depths,
            num_boundaries=len(self._boundaries),
        )

    def resolve(self, num_train: int) -> TrialSpec:
        """The spec without any `auto`, for a training on so many images."""
        return replace(
            self.spec,
            batch_size=resolve_batch_size(self.spec.batch_size, num_train),
            batchnorm=resolve_batchnorm(self.spec.batchnorm, num_train),
            head_init=resolve_head_init(self.spec.head_init),
            image_size=self.image_size,
            precision=devices.resolve_precision(self.spec.precision, self._device),
        )

    def learners(
        self,
        parts: Sequence[Examples],
        *,
        names: Sequence[str],
        spec: TrialSpec,
        initial_heads: Sequence[LinearClassifier] | None,
        memory: Memory,
    ) -> HeadLearners | SuffixLearners:
        """One learner for each part, before its first update.

        Args:
            parts: what each learns from.
            names: of the learners; they tell their random draws apart.
            spec: resolved.
            initial_heads: what their heads start as, one each; None for zeros.
            memory: how their work is cut into pieces.
        """
        if is_bare_head(self.split.suffix, self.split.head):
            return HeadLearners(
                parts,
                names=names,
                spec=spec,
                num_classes=self._num_classes,
                initial_heads=initial_heads,
                memory=memory,
            )
        starts: Sequence[LinearClassifier | None] = initial_heads or [None] * len(parts)
        return SuffixLearners(
            [
                SuffixLearner(
                    independent_copy(self.split.suffix).to(self._device),
                    self.split.head,
                    part,
                    name=name,
                    spec=spec,
                    depth_of=self._depths,
                    learning=self._learning,
                    initial_head=start,
                    memory=memory,
                )
                for part, name, start in zip(parts, names, starts, strict=True)
            ]
        )

    def trained_suffix(self, learners: HeadLearners | SuffixLearners) -> fx.GraphModule:
        """The suffix of the only learner, in eval mode, its parameters no longer learning."""
        if isinstance(learners, HeadLearners):
            suffix = independent_copy(self.split.suffix).to(self._device)
            learners.copy_into(suffix.get_submodule(self.split.head))
        else:
            (suffix,) = learners.suffixes
        return suffix.eval().requires_grad_(requires_grad=False)

    def facts(self, folds: Sequence[Fold], *, labels_used: int) -> TrialFacts:
        """Resolved settings and counts.

        Args:
            folds: validation parts.
            labels_used: images drawn.
        """
        suffix = sum(p.numel() for p in self.split.suffix.parameters())
        boundary = self.split.boundary
        prefix = boundary.params if boundary else 0
        flops = sum(fact.flops for fact in self._traced.facts.values())
        flops -= self._traced.facts[self._traced.head].flops
        per_class = self.spec.label_budget.per_class
        return TrialFacts(
            spec=self.resolve(min(len(fold.train) for fold in folds)),
            weights=self.backbone.weights.version,
            boundary=boundary.node if boundary else None,
            frozen_boundaries=self.split.frozen,
            num_boundaries=len(self._boundaries),
            prefix_params_fraction=prefix / (prefix + suffix),
            prefix_flops_fraction=boundary.flops / flops if boundary else 0.0,
            trainable_params=sum(p.numel() for p in self._learning.values()),
            total_params=prefix + suffix,
            labels_used=labels_used,
            num_classes=self._num_classes,
            labels_per_class=float(per_class or labels_used / self._num_classes),
            folds=len(folds),
            num_val=sum(len(fold.val) for fold in folds),
            device=devices.describe(self._device),
        )
