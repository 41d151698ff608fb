"""Optimizers over groups of parameters, which call PyTorch's own fused steps.

The steps are the functional forms behind `torch.optim.AdamW` and `torch.optim.SGD`, and give the
same bits. The classes themselves are not used, because they import PyTorch's compiler only to mark
themselves as not to be compiled. That import costs each process that trains two seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
SGD_MOMENTUM = 0.9


@dataclass(kw_only=True)
class Group:
    """Parameters with one learning rate and one weight decay.

    Attributes:
        parameters: the trained parameters.
        peak_lr: largest learning rate of the schedule.
        weight_decay: weight decay per step, divided by the learning rate.
        lr: learning rate of the next step.
    """

    parameters: list[Tensor]
    peak_lr: float
    weight_decay: float
    lr: float = 0.0


class Optimizer(ABC):
    """Updates parameters by their gradients, group by group.

    Args:
        groups: the groups of parameters; the caller sets `lr` of each before every step.

    Attributes:
        groups: as given.
        state: state of every parameter that has made a step, by the names of `MOMENTS` in
            `trainable.training.recipe`.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = list(groups)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Drop all gradients, which frees their memory."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.groups:
            learning = [each for each in group.parameters if each.grad is not None]
            gradients = [each.grad for each in learning if each.grad is not None]
            self._step(group, learning, gradients)

    @abstractmethod
    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Update some parameters of a group by their gradients."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), with PyTorch's betas."""

    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        states = [self._state_of(parameter) for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=group.lr,
            weight_decay=group.weight_decay,
            eps=ADAM_EPSILON,
            maximize=False,
        )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self.state[parameter]


class SGD(Optimizer):
    """SGD with momentum, without dampening and without Nesterov's variant."""

    def _step(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        buffers = [self.state.get(each, {}).get("momentum_buffer") for each in parameters]
        sgd(
            parameters,
            gradients,
            buffers,
            fused=True,
            weight_decay=group.weight_decay,
            momentum=SGD_MOMENTUM,
            lr=group.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for parameter, buffer in zip(parameters, buffers, strict=True):
            assert buffer is not None  # the step fills in missing buffers
            self.state[parameter] = {"momentum_buffer": buffer}
