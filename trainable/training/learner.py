"""The base of all learners: examples, updates, and a state to resume from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from trainable.data.subsets import derive_seed
from trainable.errors import TrainableError
from trainable.features.activations import Activations
from trainable.micro_batches import nothing
from trainable.spec.trial_spec import TrialSpec
from trainable.training.checkpoint import Checkpoint
from trainable.training.interpolation import WeightPath
from trainable.training.optimizers import Optimizer
from trainable.training.recipe import MOMENTS


class DivergedError(TrainableError):
    """Training diverged (NaN or infinite loss). Recorded as a pruned trial, not as a failure."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples of a suffix: activations and labels on one device.

    Attributes:
        activations: of N examples, with side inputs.
        labels: (N,) int64.
    """

    activations: Activations
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: Tensor) -> Examples:
        """Some of the examples, in the order given."""
        return Examples(self.activations.at(positions), self.labels[positions])


def drawn_rows(spec: TrialSpec, name: str, step: int, *, num_examples: int) -> Tensor:
    """(batch_size,) which examples an update sees, with replacement."""
    seed = derive_seed("batch", spec.seed, spec.repeat, name, step)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_examples, (int(spec.batch_size),), generator=generator)


class Learner(ABC):
    """Something trained update by update; its state determines all later updates.

    Args:
        spec: the resolved recipe.
        parameters: by name, those that learn.
        buffers: by name, what training may change beside them.
        optimizer: of the parameters.

    Attributes:
        step: updates made so far.
    """

    def __init__(
        self,
        spec: TrialSpec,
        *,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        optimizer: Optimizer,
    ) -> None:
        self.step = 0
        self.spec = spec
        self._parameters = parameters
        self._buffers = buffers
        self._optimizer = optimizer
        self._loss = torch.zeros((), dtype=torch.float64)
        # Where the end is all that is asked for, no copy of the start takes memory.
        self._path = None if spec.interpolation == 1 else WeightPath({**parameters, **buffers})

    def at(self, share: float) -> AbstractContextManager[None]:
        """Within the block, the weights lie on the way from their start to their present value.

        Args:
            share: 0..1; 1 where the spec's `interpolation` is 1.
        """
        return nullcontext() if self._path is None else self._path.at(share)

    def settle(self, share: float) -> None:
        """Move the weights onto the way from their start to their present value; see `at`."""
        if self._path is not None:
            self._path.settle(share)

    def advance(
        self, step: int, *, since: int | None = None, after_update: Callable[[], None] = nothing
    ) -> float:
        """Train until `step` updates have been made.

        Args:
            step: where to stop.
            since: where to begin the mean; None for here. An earlier one is for going on from a
                state, which holds what the mean needs of the updates before it.
            after_update: called after every update.

        Returns:
            Mean loss of the updates after `since`, in nats.

        Raises:
            DivergedError: a loss or a gradient was not finite.
        """
        first = self.step if since is None else since
        if self.step == first:
            self._loss = torch.zeros((), dtype=torch.float64)
        while self.step < step:
            self._loss = self._loss + self._update()  # stays on the device of the losses
            self.step += 1
            after_update()
        mean = float(self._loss) / max(1, step - first)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss was {mean} by step {step}")
        return mean

    @abstractmethod
    def _update(self) -> Tensor:
        """Make one update; its loss, in nats, which is not finite where a gradient was not."""

    def state(self) -> Checkpoint:
        """Everything that later updates depend on, copied to the CPU."""
        live = {**self._tensors(), **self._moments()}
        copies = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            for name, tensor in live.items()
        }
        return Checkpoint({"step": self.step}, copies)

    def check(self, state: Checkpoint) -> None:
        """Make sure that a state fits, and change nothing.

        Raises:
            CheckpointError: it is of something else.
        """
        moved = state.count("step", most=self.spec.steps) > 0
        # What no gradient reaches has no moments.
        reached = {
            name
            for name in self._parameters
            if any(_moment(key, name) in state.tensors for key in MOMENTS[self.spec.optimizer])
        }
        expected = self._tensors()
        for name in (reached or self._parameters) if moved else ():
            for key, scalar in MOMENTS[self.spec.optimizer].items():
                parameter = self._parameters[name]
                expected[_moment(key, name)] = torch.zeros(()) if scalar else parameter
        state.check_tensors(expected)

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state that `check` let pass."""
        self.step = int(state.values["step"])
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(state.tensors[name])
        for name, parameter in self._parameters.items():
            for key in MOMENTS[self.spec.optimizer]:
                moment = state.tensors.get(_moment(key, name))
                if moment is not None:
                    like = parameter.detach() if moment.shape else moment
                    kept = torch.empty_like(like, device=parameter.device).copy_(moment)
                    self._optimizer.state.setdefault(parameter, {})[key] = kept

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "loss": self._loss,
            **{f"parameters/{name}": tensor for name, tensor in self._parameters.items()},
            **{f"buffers/{name}": tensor for name, tensor in self._buffers.items()},
        }

    def _moments(self) -> dict[str, Tensor]:
        """The optimizer's state for every parameter."""
        return {
            _moment(key, name): value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }


def _moment(key: str, name: str) -> str:
    return f"optimizer/{key}/{name}"
