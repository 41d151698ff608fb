"""One suffix in training: a step, the next step, a look at what it predicts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from trainable.budget import derive_seed
from trainable.device import autocast, random_state
from trainable.errors import TrainableError
from trainable.logistic import fit_path
from trainable.recipe import (
    CLIP_NORM,
    learning_rate_factor,
    make_optimizer,
    train_mode,
)
from trainable.spec import TrialSpec

EVALUATED = 256
"""Images per forward pass where nothing is trained."""


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


class Updating(ABC):
    """Something that is trained update by update.

    Attributes:
        step: updates made so far.
    """

    step = 0

    def advance(self, step: int) -> float:
        """Train until `step` updates have been made; return their mean loss, in nats.

        Raises:
            DivergedError: a loss or a gradient was not finite.
        """
        first, total = self.step, torch.zeros((), dtype=torch.float64)
        while self.step < step:
            total = total + self._update()  # stays on the device of the losses
            self.step += 1
        mean = float(total) / max(1, step - first)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss was {mean} by step {step}")
        return mean

    @abstractmethod
    def _update(self) -> Tensor:
        """Make one update; its loss, in nats, which is not finite where a gradient was not."""


class Learner(Updating):
    """Trains one suffix; a pure function of (spec, name, examples), whatever ran before.

    The examples of update t and its random layers are drawn from (seed, repeat, name, t) alone.
    An example that is drawn several times for one update is computed once and counts as often,
    unless something in the suffix depends on the batch: random layers, statistics of the batch.

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
        self._name = name
        self._device = examples.labels.device
        self._each_once = False  # until the first update has shown that nothing is random
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
        """Train until `step` updates have been made; see `Updating.advance`."""
        train_mode(self.suffix, batchnorm=self.spec.batchnorm)
        return super().advance(step)

    def _update(self) -> Tensor:
        rows = drawn_rows(self.spec, self._name, self.step, num_examples=len(self.examples))
        times = torch.ones(len(rows))
        if self._each_once:
            rows, times = torch.unique(rows, return_counts=True)
        batch = self.examples.at(rows.to(self._device))
        place = (self.spec.seed, self.spec.repeat, self._name, self.step)
        torch.manual_seed(derive_seed("noise", *place))
        before = random_state(self._device)
        with autocast(self.spec.precision, self._device):
            logits = self.suffix(batch.activations)
        if not self.step:
            self._each_once = not self._knows_the_batch() and torch.equal(
                before, random_state(self._device)
            )
        losses = functional.cross_entropy(
            logits.float(),
            batch.labels,
            label_smoothing=self.spec.label_smoothing,
            reduction="none",
        )
        loss = losses @ (times / times.sum()).to(self._device)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.suffix.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._schedule.step()
        # A gradient that is not finite has spoilt the parameters, whatever the loss still says.
        return loss.detach().double() + 0 * norm.double()

    def _knows_the_batch(self) -> bool:
        """Whether statistics of a batch enter what is computed."""
        return any(
            module.training
            for module in self.suffix.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        )

    def log_probabilities(self, activations: Tensor) -> Tensor:
        """(N, C) float64 on the CPU, in eval mode.

        Raises:
            DivergedError: a prediction is not finite.
        """
        self.suffix.eval()
        parts = []
        with torch.inference_mode(), autocast(self.spec.precision, self._device):
            for start in range(0, len(activations), EVALUATED):
                logits = self.suffix(activations[start : start + EVALUATED].clone())
                parts.append(functional.log_softmax(logits.double(), dim=1).cpu())
        result = torch.cat(parts)
        if not bool(result.isfinite().all()):
            raise DivergedError(f"a prediction at step {self.step} is no finite number")
        return result


class Learners:
    """The learners of all folds, in lockstep; see `trainable.heads.Heads` for the same of heads.

    Args:
        learners: one a fold.
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        self._learners = learners

    @property
    def suffixes(self) -> list[fx.GraphModule]:
        """What is being trained, one a fold."""
        return [learner.suffix for learner in self._learners]

    def advance(self, step: int) -> float:
        """Train until each has made `step` updates; return their mean loss, in nats."""
        return sum(learner.advance(step) for learner in self._learners) / len(self._learners)

    def log_probabilities(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What each learner makes of its part; see `Learner.log_probabilities`."""
        pairs = zip(self._learners, parts, strict=True)
        return [learner.log_probabilities(part) for learner, part in pairs]


def drawn_rows(spec: TrialSpec, name: str, step: int, *, num_examples: int) -> Tensor:
    """(batch_size,) which examples an update sees, with replacement."""
    seed = derive_seed("batch", spec.seed, spec.repeat, name, step)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_examples, (int(spec.batch_size),), generator=generator)


def _fit_head(suffix: fx.GraphModule, head: str, examples: Examples, *, num_classes: int) -> None:
    """Start the head as a logistic regression on what reaches it (Kumar et al., 2022, LP-FT)."""
    layer = suffix.get_submodule(head)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    suffix.eval()
    with torch.no_grad():
        for start in range(0, len(examples), EVALUATED):
            suffix(examples.activations[start : start + EVALUATED].clone())
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
