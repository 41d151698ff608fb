"""Multinomial logistic regression on fixed features: the linear probe and the initial head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from trainable.micro_batches import nothing

LINEAR = (nn.Linear, nn.Conv2d)
"""Layers that a linear classifier can be copied into."""

_MAX_ITERATIONS = 300
_SMALLEST_VARIANCE = 1e-20


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier: logits = features @ weight.T + bias.

    Attributes:
        weight: (C, D) float64.
        bias: (C,) float64.
    """

    weight: Tensor
    bias: Tensor

    def to(self, device: torch.device | str) -> LinearClassifier:
        """Return the same classifier on a device."""
        return LinearClassifier(self.weight.to(device), self.bias.to(device))

    def copy_into(self, *layers: nn.Module) -> None:
        """Copy weight and bias into linear layers or convolutions, in the precision of each.

        Features are what all layers take, one after another, and logits the sum of what they give:
        the bias goes into the first. A kernel that is larger than one place gets the weights at its
        centre.
        """
        weights = torch.split(self.weight, [_width(layer) for layer in layers], dim=1)
        with torch.no_grad():
            for number, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
                assert isinstance(layer, LINEAR)
                assert layer.bias is not None
                layer.weight.zero_()
                kernels = layer.weight.view(*weight.shape, -1)
                kernels[:, :, kernels.shape[2] // 2] = weight.to(kernels)
                layer.bias.copy_(torch.zeros_like(self.bias) if number else self.bias)

    def logits(self, features: Tensor) -> Tensor:
        """(N, C) float64 logits of the classes, for (N, D) features."""
        return functional.linear(features.double(), self.weight, self.bias)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """(N, C) float64 log-probabilities of the classes, for (N, D) features."""
        return functional.log_softmax(self.logits(features), dim=1)


def _width(layer: nn.Module) -> int:
    """Number of features that a linear layer or convolution takes at a place."""
    assert isinstance(layer, LINEAR)
    return layer.weight.shape[1]


def fit_path(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    inverse_penalties: Sequence[float],
    num_examples: int | None = None,
    heartbeat: Callable[[], None] = nothing,
) -> Iterator[LinearClassifier]:
    """Yield minimisers of C * (summed cross-entropy) + ||W||^2 / 2 for several inverse penalties C.

    The objective is that of scikit-learn's LogisticRegression; the bias is not penalised. L-BFGS
    with a strong Wolfe line search (Nocedal and Wright, Numerical Optimization, 2006, algorithms
    7.5 and 3.5) minimises it in float64, and starts for each C at the minimiser of the C before.

    Features are centred and divided by one common scale, so that C means the same for every
    backbone: the root of the mean variance of all features that vary. A scale per feature would
    amplify weak features, which costs accuracy if labels are few. The classifiers returned take raw
    features.

    Args:
        features: (N, D) floats.
        labels: (N,) int64 class ids.
        num_classes: number of classes; a class without a label gets a low bias.
        inverse_penalties: values of C; ascending order is fastest.
        num_examples: number of examples that the rows belong to, in equal parts; the sum of the
            cross-entropy is over these, of their means. None where a row is an example.
        heartbeat: called after every pass over the features, as a sign of life.

    Yields:
        One classifier per value of C, in order, on the features' device.
    """
    count = len(labels) if num_examples is None else num_examples
    features = features.double()
    mean = features.mean(dim=0)
    variances = features.var(dim=0, unbiased=False)
    varying = variances[variances > _SMALLEST_VARIANCE]
    scale = float(varying.mean().rsqrt()) if len(varying) else 1.0
    centred = (features - mean) * scale
    weight = torch.zeros(
        num_classes, features.shape[1], dtype=torch.float64, device=features.device
    ).requires_grad_()
    bias = torch.zeros(num_classes, dtype=torch.float64, device=features.device).requires_grad_()
    for inverse_penalty in inverse_penalties:
        with torch.enable_grad():
            _minimise(weight, bias, centred, labels, inverse_penalty * count, heartbeat)
        scaled = (weight * scale).detach()
        yield LinearClassifier(weight=scaled, bias=bias.detach() - scaled @ mean)


def _minimise(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    labels: Tensor,
    weight_of_loss: float,
    heartbeat: Callable[[], None],
) -> None:
    """Run L-BFGS from the current values of `weight` and `bias`, which are changed in place."""
    optimizer = _LBFGS(
        [weight, bias],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        weight.grad = bias.grad = None
        logits = functional.linear(features, weight, bias)
        penalty = weight.square().sum() / (2 * weight_of_loss)
        loss = functional.cross_entropy(logits, labels) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        heartbeat()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


class _LBFGS(optim.LBFGS):
    """PyTorch's L-BFGS without the import of PyTorch's compiler.

    PyTorch's optimizers import the compiler when they get parameters, only to mark that call as not
    to be compiled. L-BFGS has no functional form that would avoid it; see `optimizers`.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters as PyTorch does, without the decorator that imports the compiler."""
        inspect.unwrap(optim.Optimizer.add_param_group)(self, param_group)
