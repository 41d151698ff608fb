"""Training of linear heads: the heads of all folds are updated in one batched computation.

The recipe is that of `trainable.training.suffix_learner`, for suffixes that are a linear head only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trainable.device import autocast
from trainable.micro_batches import Memory, memory_errors
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import Outcomes, joined
from trainable.tasks.classification.task import ClassTargets
from trainable.training.learner import Examples, Learner, drawn_rows
from trainable.training.logistic import LinearClassifier
from trainable.training.recipe import CLIP_NORM, head_optimizer, set_learning_rates


def is_bare_head(suffix: fx.GraphModule, heads: Sequence[str]) -> bool:
    """Whether a suffix consists of one linear head only.

    Args:
        suffix: the suffix.
        heads: names of the heads within the suffix.
    """
    work = [node for node in suffix.graph.nodes if node.op not in ("placeholder", "output")]
    return [str(node.target) for node in work] == [*heads] and isinstance(
        suffix.get_submodule(heads[0]), nn.Linear
    )


class HeadLearners(Learner):
    """Trains one linear head per fold, in lockstep; losses are means over folds.

    Args:
        parts: training examples of each fold, with (N, D) activations.
        names: names of the folds; each name has random draws of its own.
        spec: the resolved recipe.
        num_classes: number of outputs of a head.
        initial_heads: initial head of each fold; None for zeros.
        memory: micro-batch sizes, shared with other learners; None for sizes of its own.
    """

    def __init__(
        self,
        parts: Sequence[Examples],
        *,
        names: Sequence[str],
        spec: TrialSpec,
        num_classes: int,
        initial_heads: Sequence[LinearClassifier] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._names = names
        self._sizes = [len(part) for part in parts]
        self._device = parts[0].targets.device
        self._memory = memory or Memory(self._device)
        self._labels = nn.utils.rnn.pad_sequence([*map(_labels, parts)], batch_first=True)
        self._features = nn.utils.rnn.pad_sequence(
            [part.activations.dense.float() for part in parts], batch_first=True
        )
        width = self._features.shape[2]
        weight = torch.zeros(len(parts), width, num_classes, device=self._device)
        bias = torch.zeros(len(parts), 1, num_classes, device=self._device)
        for fold, classifier in enumerate(initial_heads or ()):
            weight[fold] = classifier.weight.T
            bias[fold] = classifier.bias
        self._weight = weight.requires_grad_()
        self._bias = bias.requires_grad_()
        super().__init__(
            spec,
            parameters={"weight": self._weight, "bias": self._bias},
            buffers={},
            optimizer=head_optimizer(spec, weights=[self._weight], biases=[self._bias]),
        )

    def outcomes(self, parts: Sequence[Examples], *, share: float = 1) -> list[Outcomes]:
        """Return what the predictions of each fold's head for its examples leave behind.

        Args:
            parts: examples of each fold, with (N, D) activations.
            share: position between the initial weights (0) and the current weights (1).

        Raises:
            DivergedError: a prediction is not finite.
        """
        with self.at(share), torch.inference_mode(), autocast(self.spec.precision, self._device):
            found = [self._predicted(fold, part) for fold, part in enumerate(parts)]
        for outcomes in found:
            self.check_finite(outcomes)
        return found

    def copy_into(self, layer: nn.Module, *, fold: int = 0) -> None:
        """Copy the head of one fold into a linear layer."""
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.weight.copy_(self._weight[fold].T)
            layer.bias.copy_(self._bias[fold].squeeze(0))

    def _predicted(self, fold: int, part: Examples) -> Outcomes:
        weight, bias = self._weight[fold].T, self._bias[fold].squeeze(0)
        features = part.activations.dense
        positions = torch.arange(len(part), device=self._device)

        def predict(rows: slice) -> Outcomes:
            logits = functional.linear(features[rows], weight, bias)
            return part.targets.at(positions[rows]).outcomes(logits)

        pieces = self._memory.evaluation
        return joined(pieces.over(len(features), most=len(features), attempt=predict))

    def _update(self) -> Tensor:
        rows = torch.stack(
            [
                drawn_rows(self.spec, name, self.step, num_examples=size)
                for name, size in zip(self._names, self._sizes, strict=True)
            ]
        ).to(self._device)
        loss = self._memory.updates.fit(rows.shape[1], lambda size: self._gradients(rows, size))
        with memory_errors("an update of the parameters"):
            norms = self._clip()
            set_learning_rates(self._optimizer, self.spec, step=self.step)
            self._optimizer.step()
        # If a gradient is not finite, the parameters are ruined even if the loss is still finite.
        return loss / len(rows) + 0 * norms.double().sum()

    def _gradients(self, rows: Tensor, size: int) -> Tensor:
        """Compute the gradients of each fold's mean loss; return the sum of these losses, in nats.

        Args:
            rows: (F, B) rows of the examples of each fold's batch.
            size: number of examples of a fold in a micro-batch.
        """
        self._optimizer.zero_grad()
        folds = torch.arange(len(rows), device=self._device)[:, None]
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for start in range(0, rows.shape[1], size):
            some = rows[:, start : start + size]
            with autocast(self.spec.precision, self._device):
                logits = torch.baddbmm(self._bias, self._features[folds, some], self._weight)
            losses = functional.cross_entropy(
                logits.float().flatten(0, 1),
                self._labels[folds, some].flatten(),
                label_smoothing=self.spec.label_smoothing,
                reduction="none",
            ).view(some.shape)
            loss = losses.mean(dim=1).sum() * (some.shape[1] / rows.shape[1])
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _clip(self) -> Tensor:
        """Clip the gradient of each head separately; return the (F,) norms before clipping."""
        assert self._weight.grad is not None
        assert self._bias.grad is not None
        squares = self._weight.grad.square().sum(dim=(1, 2)) + self._bias.grad.square().sum(
            dim=(1, 2)
        )
        norms = squares.sqrt()
        factors = (CLIP_NORM / (norms + 1e-6)).clamp(max=1.0)[:, None, None]
        self._weight.grad.mul_(factors)
        self._bias.grad.mul_(factors)
        return norms


def _labels(part: Examples) -> Tensor:
    """(N,) int64 class ids, which a linear head on one vector is always trained on."""
    assert isinstance(part.targets, ClassTargets)
    return part.targets.labels
