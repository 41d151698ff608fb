"""Set-up of a trial: the cut of its backbone, the values of `auto`, and the learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from trainable import device as devices
from trainable.backbones import Backbone, Weights
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries, parameter_depths
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.dropout import has_dropout, set_dropout
from trainable.backbones.graphs.graph import TracedBackbone, independent_copy
from trainable.data.subsets import Fold
from trainable.errors import SpecError
from trainable.micro_batches import Memory
from trainable.modalities import modality_called
from trainable.spec.settings import AUTO, block_range
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
        SpecError: the spec names more blocks than the backbone has.
    """
    return frozen_boundaries(
        num_boundaries,
        depth=spec.freeze_depth,
        blocks=spec.frozen_blocks,
        train=block_range(spec.train_blocks),
    )


def resolved_size(spec: TrialSpec, weights: Weights) -> int:
    """Return the size of a trial's inputs, such as the side of images in pixels; see `Modality`."""
    modality = modality_called(weights.modality)
    return modality.size(weights, getattr(spec, modality.setting))


def reading_backbone(spec: TrialSpec, backbone: Backbone) -> Backbone:
    """The backbone as a trial reads its examples with it; see `Modality.reading`."""
    modality = modality_called(backbone.weights.modality)
    return modality.reading(backbone, vars(spec))


def check_dropout(spec: TrialSpec, traced: TracedBackbone) -> None:
    """Refuse a rate of dropout that the backbone has no dropout for.

    Raises:
        SpecError: it has none, or trains without.
    """
    if spec.dropout == AUTO or not float(spec.dropout):
        return
    if traced.without_dropout:
        reason = "trains without dropout: what it computes in training is another graph"
    elif not has_dropout(traced.module):
        reason = "has no dropout"
    else:
        return
    raise SpecError(f"dropout: got {spec.dropout}; allowed: auto or 0, as this backbone {reason}")


class TrialSetup:
    """A spec applied to its backbone: the split, the resolved settings and the learners.

    Args:
        spec: the configuration.
        backbone: the backbone that `spec.backbone` names.
        num_classes: number of outputs of the new head.
        device: the device to compute on.

    Attributes:
        spec: as given.
        backbone: as given, reading its examples as the spec says.
        modality: modality of the backbone.
        size: size of the backbone's input; see `Modality`.
        split: the backbone, cut into prefix and suffix, with a new head.

    Raises:
        SpecError, BackboneError: the backbone cannot be cut as the spec asks.
    """

    def __init__(
        self, spec: TrialSpec, backbone: Backbone, *, num_classes: int, device: torch.device
    ) -> None:
        self.spec = spec
        self.backbone = backbone = reading_backbone(spec, backbone)
        self.modality = modality_called(backbone.weights.modality)
        self.size = resolved_size(spec, backbone.weights)
        self._num_classes = num_classes
        self._device = device
        self._traced = backbone.traced(self.size)
        check_dropout(spec, self._traced)
        self._boundaries = boundaries(self._traced)
        frozen = num_frozen(spec, len(self._boundaries))
        self.split = split(self._traced, frozen=frozen, num_classes=num_classes)
        if spec.dropout != AUTO:
            set_dropout(self.split.suffix, float(spec.dropout))
        # What layers share is no farther from the head than the first of them that trains.
        farthest = len(self._boundaries) - frozen
        self._depths = {
            name: min(depth, farthest) for name, depth in parameter_depths(self._traced).items()
        }
        self._learning = learning_parameters(
            spec,
            self.split.suffix,
            heads=self.split.heads,
            depth_of=self._depths,
            num_boundaries=len(self._boundaries),
        )

    def resolve(self, num_train: int) -> TrialSpec:
        """Return the spec without `auto`, for a training on `num_train` examples.

        An `interpolation: auto` stays, because validation decides it; see `HeldOut`.
        """
        resolved: dict[str, Any] = {
            "batch_size": resolve_batch_size(self.spec.batch_size, num_train),
            "batchnorm": resolve_batchnorm(self.spec.batchnorm, num_train),
            "head_init": resolve_head_init(self.spec.head_init),
            self.modality.setting: self.size,
            **self.modality.resolved(self.backbone.weights),
            "precision": devices.resolve_precision(self.spec.precision, self._device),
        }
        return replace(self.spec, **resolved)

    def learners(
        self,
        parts: Sequence[Examples],
        *,
        names: Sequence[str],
        spec: TrialSpec,
        initial_heads: Sequence[LinearClassifier] | None,
        memory: Memory,
    ) -> HeadLearners | SuffixLearners:
        """Return one learner per part, before its first update.

        Args:
            parts: training examples of each learner.
            names: names of the learners; each name has random draws of its own.
            spec: the resolved recipe.
            initial_heads: initial head of each learner; None for zeros.
            memory: micro-batch sizes, which the learners share.
        """
        if is_bare_head(self.split.suffix, self.split.heads):
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
                    self.split.heads,
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
        """Return the suffix of the only learner, in eval mode and without gradients."""
        if isinstance(learners, HeadLearners):
            suffix = independent_copy(self.split.suffix).to(self._device)
            learners.copy_into(suffix.get_submodule(self.split.head))
        else:
            (suffix,) = learners.suffixes
        return suffix.eval().requires_grad_(requires_grad=False)

    def facts(self, folds: Sequence[Fold], *, labels_used: int) -> TrialFacts:
        """Return the resolved settings and the counts of the trial.

        Args:
            folds: the folds, at least one.
            labels_used: number of examples drawn.
        """
        suffix = sum(p.numel() for p in self.split.suffix.parameters())
        boundary = self.split.boundary
        prefix = boundary.params if boundary else 0
        flops = sum(fact.flops for fact in self._traced.facts.values())
        flops -= sum(self._traced.facts[head].flops for head in self._traced.heads)
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
            folds=len(folds),
            num_val=sum(len(fold.val) for fold in folds),
            device=devices.describe(self._device),
        )
