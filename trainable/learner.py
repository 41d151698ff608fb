"""One suffix in training: a step, the next step, a look at what it predicts."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from trainable.budget import derive_seed
from trainable.device import autocast
from trainable.errors import TrainableError
from trainable.features import BATCH
from trainable.logistic import fit_path
from trainable.recipe import (
    CLIP_NORM,
    learning_rate_factor,
    make_optimizer,
    train_mode,
)
from trainable.spec import TrialSpec


class DivergedError(TrainableError):
    """The loss is no finite number any more; an answer about the configuration, not a fault."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What a suffix learns from: activations and labels on one device.

    Attributes:
        activations: (N, *shape) float.
        labels: (N,) int64.
    """

    activations: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: Tensor) -> Examples:
        """A copy of some rows; in-place layers of a suffix may write to it."""
        return Examples(self.activations[positions], self.labels[positions])


class Learner:
    """Trains one suffix; a pure function of (spec, name, examples), whatever ran before.

    The examples of update t and its random layers are drawn from (seed, repeat, name, t) alone.

    Args:
        suffix: to be trained in place; its head is initialised here.
        head: name of the head within it.
        examples: to learn from.
        name: tells this learner's random draws from those of its siblings, such as `fold0`.
        spec: the resolved recipe: no knob is `auto`.
        depth_of: for every parameter its distance from the head, in boundaries.
        learning: names of the parameters of the suffix that learn; None for all.
        num_classes: outputs of the head.
    """

    def __init__(
        self,
        suffix: fx.GraphModule,
        head: str,
        examples: Examples,
        *,
        name: str,
        spec: TrialSpec,
        depth_of: dict[str, int],
        learning: Collection[str] | None = None,
        num_classes: int,
    ) -> None:
        self.suffix = suffix
        self.examples = examples
        self.spec = spec
        self.step = 0
        self._name = name
        self._device = examples.labels.device
        if spec.head_init == "logistic":
            _fit_head(suffix, head, examples, num_classes=num_classes)
        for parameter_name, parameter in suffix.named_parameters():
            parameter.requires_grad_(learning is None or parameter_name in learning)
        self._optimizer = make_optimizer(spec, suffix, depth_of=depth_of)
        self._schedule = LambdaLR(
            self._optimizer,
            lambda step: learning_rate_factor(step, steps=spec.steps, warmup=spec.warmup),
        )

    def advance(self, step: int) -> float:
        """Train until `step` updates have been made; return their mean loss, in nats.

        Raises:
            DivergedError: a loss or a gradient was not finite.
        """
        train_mode(self.suffix, batchnorm=self.spec.batchnorm)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        first = self.step
        while self.step < step:
            total += self._update()
            self.step += 1
        mean = float(total) / max(1, step - first)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss was {mean} by step {step}")
        return mean

    def _update(self) -> Tensor:
        place = (self.spec.seed, self.spec.repeat, self._name, self.step)
        generator = torch.Generator().manual_seed(derive_seed("batch", *place))
        size = int(self.spec.batch_size)
        rows = torch.randint(len(self.examples), (size,), generator=generator)
        batch = self.examples.at(rows.to(self._device))
        torch.manual_seed(derive_seed("noise", *place))
        with autocast(self.spec.precision, self._device):
            logits = self.suffix(batch.activations)
        loss = functional.cross_entropy(
            logits.float(), batch.labels, label_smoothing=self.spec.label_smoothing
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.suffix.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._schedule.step()
        # A gradient that is not finite has spoilt the parameters, whatever the loss still says.
        return loss.detach().double() + 0 * norm.double()

    def log_probabilities(self, activations: Tensor) -> Tensor:
        """(N, C) float64 on the CPU, in eval mode.

        Raises:
            DivergedError: a prediction is not finite.
        """
        self.suffix.eval()
        parts = []
        with torch.no_grad(), autocast(self.spec.precision, self._device):
            for start in range(0, len(activations), BATCH):
                logits = self.suffix(activations[start : start + BATCH].clone())
                parts.append(functional.log_softmax(logits.double(), dim=1).cpu())
        result = torch.cat(parts)
        if not bool(result.isfinite().all()):
            raise DivergedError(f"a prediction at step {self.step} is no finite number")
        return result


def _fit_head(suffix: fx.GraphModule, head: str, examples: Examples, *, num_classes: int) -> None:
    """Start the head as a logistic regression on what reaches it (Kumar et al., 2022, LP-FT)."""
    layer = suffix.get_submodule(head)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    suffix.eval()
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            suffix(examples.activations[start : start + BATCH].clone())
    hook.remove()
    features = torch.cat(seen).float()
    if features.ndim == 4:  # a 1x1 convolution classifies every place; start it at their mean
        features = features.mean(dim=(2, 3))
    (classifier,) = fit_path(
        features, examples.labels, num_classes=num_classes, inverse_penalties=[1.0]
    )
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(classifier.weight.view_as(layer.weight))
        layer.bias.copy_(classifier.bias)
