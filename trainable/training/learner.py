"""The base class of all learners: updates, and a state from which training resumes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from trainable.data.subsets import derive_seed
from trainable.errors import CheckpointError, TrainableError
from trainable.features.activations import Activations
from trainable.micro_batches import nothing
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import Outcomes, Targets
from trainable.training.checkpoint import Checkpoint
from trainable.training.interpolation import WeightPath
from trainable.training.optimizers import Optimizer
from trainable.training.recipe import MOMENTS


class DivergedError(TrainableError):
    """The loss is NaN or infinite. A trial is then recorded as pruned, not as failed."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of a suffix: activations and targets on one device.

    Attributes:
        activations: activations of N examples, with their side inputs.
        targets: their targets.
    """

    activations: Activations
    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, positions: Tensor) -> Examples:
        """Return the examples at some positions, in the order given."""
        return Examples(self.activations.at(positions), self.targets.at(positions))


def drawn_rows(spec: TrialSpec, name: str, step: int, *, num_examples: int) -> Tensor:
    """(batch_size,) int64 rows of the examples of one update, drawn with replacement.

    Args:
        spec: the resolved recipe; its seed, repeat and batch size are used.
        name: name of the learner.
        step: number of the update, from 0.
        num_examples: number of training examples.
    """
    seed = derive_seed("batch", spec.seed, spec.repeat, name, step)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_examples, (int(spec.batch_size),), generator=generator)


class Learner(ABC):
    """Trains parameters update by update; its state determines all later updates.

    Args:
        spec: the resolved recipe.
        parameters: trained parameters, by name.
        buffers: other tensors that training may change, by name.
        optimizer: optimizer of the parameters.

    Attributes:
        step: number of updates made so far.
        spec: as given.
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
        self._first_loss = torch.zeros((), dtype=torch.float64)
        # A fixed interpolation of 1 needs no copy of the initial weights, which would take memory.
        self._path = None if spec.interpolation == 1 else WeightPath({**parameters, **buffers})

    @property
    def first_loss(self) -> float:
        """Loss of the first update's batch before that update, in nats; 0 until it was made.

        Infinite if the training goes on from a checkpoint that does not know it.
        """
        return float(self._first_loss)

    def at(self, share: float) -> AbstractContextManager[None]:
        """Interpolate between initial and current weights, for the duration of the block.

        Args:
            share: 0 for the initial weights, 1 for the current ones; has to be 1 if the spec's
                `interpolation` is 1.
        """
        return nullcontext() if self._path is None else self._path.at(share)

    def settle(self, share: float) -> None:
        """Interpolate between initial and current weights, for good; see `at`."""
        if self._path is not None:
            self._path.settle(share)

    def advance(
        self, step: int, *, since: int | None = None, after_update: Callable[[], None] = nothing
    ) -> float:
        """Train until `step` updates have been made.

        Args:
            step: number of updates at which to stop.
            since: number of updates from which the mean loss counts; None for the current number. A
                smaller number resumes an interrupted mean: a restored state has the losses so far.
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
            loss = self._update()  # kept on the device: no update waits for it
            if not self.step:
                self._first_loss = loss
            self._loss = self._loss + loss
            self.step += 1
            after_update()
        mean = float(self._loss) / max(1, step - first)
        if not math.isfinite(mean):
            raise DivergedError(f"the training loss was {mean} by step {step}")
        return mean

    @abstractmethod
    def _update(self) -> Tensor:
        """Make one update; return its loss in nats, which is not finite if a gradient is not."""

    def check_finite(self, outcomes: Outcomes) -> None:
        """Make sure that predictions are finite numbers.

        Raises:
            DivergedError: one is not.
        """
        if not all(bool(one.isfinite().all()) for one in outcomes):
            raise DivergedError(f"a prediction at step {self.step} is no finite number")

    def state(self) -> Checkpoint:
        """Return everything that later updates depend on, copied to the CPU."""
        live = {**self._tensors(), **self._moments()}
        copies = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            for name, tensor in live.items()
        }
        return Checkpoint({"step": self.step, "first_loss": self.first_loss}, copies)

    def check(self, state: Checkpoint) -> None:
        """Make sure that a state fits this learner; nothing is changed.

        Raises:
            CheckpointError: the state belongs to another training.
        """
        moved = state.count("step", most=self.spec.steps) > 0
        if not isinstance(state.values.get("first_loss", math.inf), float):
            raise CheckpointError("first_loss: the checkpoint has no number; start from scratch")
        # A parameter that never had a gradient has no state in the optimizer.
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
        """Resume from a state that `check` has accepted."""
        self.step = int(state.values["step"])
        known = state.values.get("first_loss", math.inf)  # unknown to checkpoints of old
        self._first_loss = torch.tensor(known, dtype=torch.float64)
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
        """Return the optimizer's state of every parameter, by the name in a checkpoint."""
        return {
            _moment(key, name): value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }


def _moment(key: str, name: str) -> str:
    return f"optimizer/{key}/{name}"
