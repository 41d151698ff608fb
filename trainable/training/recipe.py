"""The training recipe of a suffix: parameter groups, optimizer, schedule, modes."""

from __future__ import annotations

import math

import torch
from torch import fx, nn

from trainable.spec.settings import automatic_batch_size, block_range
from trainable.spec.trial_spec import TrialSpec
from trainable.training.optimizers import SGD, AdamW, Group, Optimizer

CLIP_NORM = 1.0
"""Largest gradient norm of an update."""

MOMENTS = {
    "adamw": {"step": True, "exp_avg": False, "exp_avg_sq": False},
    "sgd": {"momentum_buffer": False},
}
"""What an optimizer remembers of a parameter, and whether it is one number."""

BATCHNORM_TRAIN_FROM = 500
"""Training images from which `batchnorm: auto` lets the trained part use batch statistics."""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def resolve_batch_size(batch_size: int | str, num_train: int) -> int:
    """Images per update for the setting `batch_size`, `auto` included."""
    return automatic_batch_size(num_train) if batch_size == "auto" else int(batch_size)


def resolve_batchnorm(batchnorm: str, num_train: int) -> str:
    """`eval` or `train` for the setting `batchnorm`, `auto` included."""
    if batchnorm != "auto":
        return batchnorm
    return "train" if num_train >= BATCHNORM_TRAIN_FROM else "eval"


def resolve_head_init(head_init: str) -> str:
    """`zero` or `logistic` for the setting `head_init`, `auto` included."""
    return "logistic" if head_init == "auto" else head_init


def train_mode(suffix: nn.Module, *, batchnorm: str) -> None:
    """Put a suffix into train mode, its BatchNorm layers into the mode `batchnorm`."""
    suffix.train()
    if batchnorm == "eval":
        for module in suffix.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def learning_parameters(
    spec: TrialSpec, suffix: nn.Module, *, head: str, depth_of: dict[str, int], num_boundaries: int
) -> dict[str, nn.Parameter]:
    """The parameters of a suffix that learn; those of its head always do.

    `trainable: bitfit` leaves the biases alone to learn (Ben Zaken et al., BitFit, 2022),
    `train_blocks` the blocks it names (Lee et al., Surgical fine-tuning, 2023).

    Args:
        spec: `trainable` and `train_blocks` are read.
        suffix: the module to train.
        head: name of its head.
        depth_of: for every parameter its distance from the head, in boundaries.
        num_boundaries: of the whole backbone.
    """
    blocks = block_range(spec.train_blocks)

    def learns(name: str) -> bool:
        if name.startswith(f"{head}."):
            return True
        if spec.trainable == "bitfit" and name.rpartition(".")[2] != "bias":
            return False
        return blocks is None or blocks[0] <= num_boundaries + 1 - depth_of[name] <= blocks[1]

    return {name: parameter for name, parameter in suffix.named_parameters() if learns(name)}


def make_optimizer(
    spec: TrialSpec, suffix: fx.GraphModule, *, depth_of: dict[str, int]
) -> Optimizer:
    """The optimizer of one suffix, of its parameters that require gradients.

    Biases and normalisation parameters are not decayed. With layer decay d, a parameter k
    boundaries below the head learns at lr x d^k (Clark et al., ELECTRA, 2020, section 3.1).

    Args:
        spec: optimizer, lr, weight_decay and layer_decay are read.
        suffix: the module to train.
        depth_of: for every parameter its distance from the head, in boundaries.
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
        # Of the new head, a bias may be unknown there: the old head needs not have had one.
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
    """The optimizer of heads alone; as of a suffix, biases are not decayed."""
    return _optimizer(
        spec,
        [
            Group(parameters=weights, peak_lr=spec.lr, weight_decay=spec.weight_decay),
            Group(parameters=biases, peak_lr=spec.lr, weight_decay=0.0),
        ],
    )


def set_learning_rates(optimizer: Optimizer, spec: TrialSpec, *, step: int) -> None:
    """Give every group of an optimizer its learning rate for update `step` (from 0)."""
    factor = learning_rate_factor(step, steps=spec.steps, warmup=spec.warmup)
    for group in optimizer.groups:
        group.lr = group.peak_lr * factor


def _optimizer(spec: TrialSpec, groups: list[Group]) -> Optimizer:
    return SGD(groups) if spec.optimizer == "sgd" else AdamW(groups)


def learning_rate_factor(step: int, *, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at update `step` (from 0): linear warm-up, cosine to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * progress))
