"""The training recipe of a suffix: values of `auto`, trained parameters, optimizer and schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import fx, nn

from trainable.spec.settings import automatic_batch_size, block_range
from trainable.spec.trial_spec import TrialSpec
from trainable.training.optimizers import SGD, AdamW, Group, Optimizer

CLIP_NORM = 1.0
"""L2 norm to which the gradient of an update is clipped."""

MOMENTS = {
    "adamw": {"step": True, "exp_avg": False, "exp_avg_sq": False},
    "sgd": {"momentum_buffer": False},
}
"""Optimizer -> name of each tensor of a parameter's state -> whether it is a single number. The
other tensors have the shape of the parameter."""

BATCHNORM_TRAIN_FROM = 5000
"""Number of training images from which `batchnorm: auto` means `train`: batch statistics.

With up to 1,600, the most that were tried, they cost 1 to 5 points of accuracy: see docs/recipe.md.
"""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def resolve_batch_size(batch_size: int | str, num_train: int) -> int:
    """Return the examples per update for the setting `batch_size`, which may be `auto`."""
    return automatic_batch_size(num_train) if batch_size == "auto" else int(batch_size)


def resolve_views(spec: TrialSpec, num_images: int) -> TrialSpec:
    """Return the spec with a number of views, if it has any.

    Args:
        spec: the configuration.
        num_images: all images of the budget, so that folds and the training on the whole share
            their views.
    """
    if spec.augment is None:
        return spec
    return replace(spec, augment=spec.augment.resolved(num_images))


def resolve_batchnorm(batchnorm: str, num_train: int) -> str:
    """Return `eval` or `train` for the setting `batchnorm`, which may be `auto`."""
    if batchnorm != "auto":
        return batchnorm
    return "train" if num_train >= BATCHNORM_TRAIN_FROM else "eval"


def resolve_head_init(head_init: str) -> str:
    """Return `zero` or `logistic` for the setting `head_init`, which may be `auto`."""
    return "logistic" if head_init == "auto" else head_init


def train_mode(suffix: nn.Module, *, batchnorm: str) -> None:
    """Put a suffix into train mode, and its BatchNorm layers into the mode `batchnorm`."""
    suffix.train()
    if batchnorm == "eval":
        for module in suffix.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def learning_parameters(
    spec: TrialSpec,
    suffix: nn.Module,
    *,
    heads: Sequence[str],
    depth_of: dict[str, int],
    num_boundaries: int,
) -> dict[str, nn.Parameter]:
    """The parameters of a suffix that are trained, by name; heads are always trained.

    With `trainable: bitfit`, only biases are trained below the head (Ben Zaken et al., BitFit,
    2022); with `train_blocks`, only the named blocks (Lee et al., Surgical fine-tuning, 2023).

    Args:
        spec: the configuration; `trainable` and `train_blocks` are used.
        suffix: the suffix to train.
        heads: names of its heads.
        depth_of: parameter name -> distance from the head, in boundaries.
        num_boundaries: number of boundaries of the whole backbone.
    """
    blocks = block_range(spec.train_blocks)

    def learns(name: str) -> bool:
        if name.startswith(tuple(f"{head}." for head in heads)):
            return True
        if spec.trainable == "bitfit" and name.rpartition(".")[2] != "bias":
            return False
        return blocks is None or blocks[0] <= num_boundaries + 1 - depth_of[name] <= blocks[1]

    return {name: parameter for name, parameter in suffix.named_parameters() if learns(name)}


def make_optimizer(
    spec: TrialSpec, suffix: fx.GraphModule, *, depth_of: dict[str, int]
) -> Optimizer:
    """The optimizer of those parameters of a suffix that require gradients.

    Biases and normalisation parameters have no weight decay. With layer decay d, a parameter k
    boundaries below the head has the learning rate lr x d^k (Clark et al., ELECTRA, 2020, section
    3.1).

    Args:
        spec: the configuration; optimizer, lr, weight_decay and layer_decay are used.
        suffix: the suffix to train.
        depth_of: parameter name -> distance from the head, in boundaries.
    """
    undecayed = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in suffix.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or parameter.ndim <= 1
    }
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in suffix.named_parameters():
        if not parameter.requires_grad:
            continue
        # `depth_of` knows the old head, which may have no bias; the new head always has one.
        place = (depth_of.get(name, 0), name not in undecayed)
        groups.setdefault(place, []).append(parameter)
    return _optimizer(
        spec,
        [
            Group(
                parameters=list(parameters),
                peak_lr=spec.lr * spec.layer_decay**depth,
                weight_decay=spec.weight_decay if decayed else 0.0,
            )
            for (depth, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
    )


def head_optimizer(
    spec: TrialSpec, *, weights: list[torch.Tensor], biases: list[torch.Tensor]
) -> Optimizer:
    """The optimizer of linear heads; as in `make_optimizer`, biases have no weight decay."""
    return _optimizer(
        spec,
        [
            Group(parameters=weights, peak_lr=spec.lr, weight_decay=spec.weight_decay),
            Group(parameters=biases, peak_lr=spec.lr, weight_decay=0.0),
        ],
    )


def set_learning_rates(optimizer: Optimizer, spec: TrialSpec, *, step: int) -> None:
    """Set the learning rate of every group of an optimizer for update `step` (from 0)."""
    factor = learning_rate_factor(step, steps=spec.steps, warmup=spec.warmup)
    for group in optimizer.groups:
        group.lr = group.peak_lr * factor


def _optimizer(spec: TrialSpec, groups: list[Group]) -> Optimizer:
    return SGD(groups) if spec.optimizer == "sgd" else AdamW(groups)


def learning_rate_factor(step: int, *, steps: int, warmup: float) -> float:
    """Fraction of the peak learning rate at update `step` (from 0): linear warm-up, cosine to 0.

    Args:
        step: number of the update, from 0.
        steps: number of updates of the training.
        warmup: fraction of the updates in which the rate rises, in 0..1.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * progress))
