"""Training of suffixes: the learners of all folds, updated in lockstep, and their predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trainable.data.subsets import derive_seed
from trainable.device import autocast, random_state
from trainable.errors import CheckpointError
from trainable.micro_batches import Memory, memory_errors, nothing
from trainable.modalities.text.buckets import PASS_TOKENS
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import Outcomes, joined
from trainable.training.checkpoint import Checkpoint
from trainable.training.learner import Examples, Learner, drawn_rows
from trainable.training.logistic import LinearClassifier
from trainable.training.recipe import CLIP_NORM, make_optimizer, set_learning_rates, train_mode

EVALUATED = 256
"""Most examples per forward pass of a prediction."""


class SuffixLearner(Learner):
    """Trains one suffix. The result is a pure function of (suffix, spec, name, examples).

    The examples of update t and the noise of its random layers depend only on (seed, repeat, name,
    t). An example that is drawn several times for one update is computed once, with a multiple of
    its weight in the loss, unless the suffix has random layers or uses batch statistics.

    Args:
        suffix: the suffix, which is trained in place.
        heads: names of the heads within the suffix.
        examples: training examples.
        name: name of the learner, such as `fold0`; each name has random draws of its own.
        spec: the resolved recipe.
        depth_of: parameter name -> distance from the head, in boundaries.
        learning: names of the parameters of the suffix that are trained; None for all.
        initial_head: initial head; None keeps the head of the suffix.
        memory: micro-batch sizes, shared with other learners; None for sizes of its own.

    Attributes:
        suffix: the suffix in its current state.
        examples, name, spec: as given.
    """

    def __init__(
        self,
        suffix: fx.GraphModule,
        heads: Sequence[str],
        examples: Examples,
        *,
        name: str,
        spec: TrialSpec,
        depth_of: dict[str, int],
        learning: Collection[str] | None = None,
        initial_head: LinearClassifier | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.suffix = suffix
        self.examples = examples
        self.name = name
        self._device = examples.targets.device
        self._memory = memory or Memory(self._device)
        self._each_once = False  # the first update finds out whether a layer is random
        self._divisible = True
        if initial_head is not None:
            initial_head.copy_into(*(suffix.get_submodule(head) for head in heads))
        for parameter_name, parameter in suffix.named_parameters():
            parameter.requires_grad_(learning is None or parameter_name in learning)
        super().__init__(
            spec,
            parameters={
                parameter_name: parameter
                for parameter_name, parameter in suffix.named_parameters()
                if parameter.requires_grad
            },
            buffers=dict(suffix.named_buffers()),
            optimizer=make_optimizer(spec, suffix, depth_of=depth_of),
        )

    def advance(
        self, step: int, *, since: int | None = None, after_update: Callable[[], None] = nothing
    ) -> float:
        """Train until `step` updates have been made; see `Learner.advance`."""
        train_mode(self.suffix, batchnorm=self.spec.batchnorm)
        self._divisible = not self._knows_the_batch()
        return super().advance(step, since=since, after_update=after_update)

    def state(self) -> Checkpoint:
        """See `Learner.state`."""
        state = super().state()
        return Checkpoint({**state.values, "each_once": self._each_once}, state.tensors)

    def check(self, state: Checkpoint) -> None:
        """See `Learner.check`."""
        super().check(state)
        if type(state.values.get("each_once")) is not bool:
            raise CheckpointError(
                "each_once: the checkpoint has no truth value; start from scratch"
            )

    def restore(self, state: Checkpoint) -> None:
        """See `Learner.restore`."""
        super().restore(state)
        self._each_once = state.values["each_once"]

    def _update(self) -> Tensor:
        rows = drawn_rows(self.spec, self.name, self.step, num_examples=len(self.examples))
        times = torch.ones(len(rows))
        if self._each_once:
            rows, times = torch.unique(rows, return_counts=True)
        rows, weights = (one.to(self._device) for one in (rows, times / times.sum()))
        loss = self._memory.updates.fit(
            len(rows),
            lambda size: self._gradients(rows, weights, size),
            divisible=self._divisible,
        )
        with memory_errors("an update of the parameters"):
            norm = nn.utils.clip_grad_norm_(self.suffix.parameters(), CLIP_NORM)
            set_learning_rates(self._optimizer, self.spec, step=self.step)
            self._optimizer.step()
        # If a gradient is not finite, the parameters are ruined even if the loss is still finite.
        return loss + 0 * norm.double()

    def rehearse(self) -> None:
        """Run the passes of one update on all examples and of a prediction of the first example.

        No parameter is changed and no value is read, so that examples and suffix may be on the meta
        device.

        Raises:
            Exception: an exception of any class from a layer that cannot do this.
        """
        train_mode(self.suffix, batchnorm=self.spec.batchnorm)
        rows = torch.arange(len(self.examples), device=self._device)
        self._gradients(rows, torch.ones(len(rows), device=self._device), len(rows))
        self._optimizer.zero_grad()
        self.suffix.eval()
        with torch.inference_mode():
            logits = self.suffix(*self.examples.at(rows[:1]).activations.inputs())
            functional.log_softmax(logits, dim=1)

    def _gradients(self, rows: Tensor, weights: Tensor, size: int) -> Tensor:
        """Compute the gradients of the weighted loss of some examples; return the loss, in nats.

        Args:
            rows: (B,) rows of the examples.
            weights: (B,) weights of their losses.
            size: number of examples in a micro-batch.
        """
        self._optimizer.zero_grad()
        place = (self.spec.seed, self.spec.repeat, self.name, self.step)
        torch.manual_seed(derive_seed("noise", *place))
        before = None if self.step else random_state(self._device)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for part in self._parts(rows, size):
            batch = self.examples.at(rows[part])
            with autocast(self.spec.precision, self._device):
                outputs = self.suffix(*batch.activations.inputs())
            losses = batch.targets.losses(outputs, label_smoothing=self.spec.label_smoothing)
            loss = losses @ weights[part]
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if before is not None:
            unmoved = torch.equal(before, random_state(self._device))
            self._each_once = self._divisible and unmoved
        return total

    def _parts(self, rows: Tensor, size: int) -> list[Tensor]:
        """Positions among the rows of an update that are computed together.

        Examples that differ in size are computed in parts of similar size, where nothing needs the
        whole batch and passes are cheap.
        """
        cheap = self._divisible and self._device.type == "cpu"
        batch = self.examples.activations.at(rows)
        parts = batch.in_parts(pass_size=PASS_TOKENS if cheap else math.inf)
        return [part[start : start + size] for part in parts for start in range(0, len(part), size)]

    def _knows_the_batch(self) -> bool:
        """Whether a BatchNorm layer of the suffix uses batch statistics."""
        return any(
            module.training
            for module in self.suffix.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        )

    def outcomes(self, examples: Examples) -> Outcomes:
        """Return what the predictions for N examples leave behind; see `Targets`.

        The suffix is in eval mode. Examples are sorted by padded size first, so that an example's
        predictions do not depend on longer ones beside it, and take no padding.

        Raises:
            DivergedError: a prediction is not finite.
        """
        self.suffix.eval()
        groups = examples.activations.by_size()

        def predict(positions: Tensor, rows: slice) -> Outcomes:
            batch = examples.at(positions[rows])
            return batch.targets.outcomes(self.suffix(*batch.activations.inputs()))

        parts: list[Outcomes] = []
        with torch.inference_mode(), autocast(self.spec.precision, self._device):
            for positions in groups:
                parts += self._memory.evaluation.over(
                    len(positions), most=EVALUATED, attempt=partial(predict, positions)
                )
        order = torch.argsort(torch.cat(groups)).cpu()
        found = tuple(one[order] for one in joined(parts))
        self.check_finite(found)
        return found


class SuffixLearners:
    """The learners of all folds, trained in lockstep; `HeadLearners` does this for bare heads.

    Args:
        learners: one learner per fold.
    """

    def __init__(self, learners: Sequence[SuffixLearner]) -> None:
        self._learners = learners

    @property
    def suffixes(self) -> list[fx.GraphModule]:
        """Current suffixes, one per fold."""
        return [learner.suffix for learner in self._learners]

    @property
    def step(self) -> int:
        """Number of updates of the learner that has made the most."""
        return max(learner.step for learner in self._learners)

    @property
    def first_loss(self) -> float:
        """Mean over the learners; see `Learner.first_loss`."""
        return sum(learner.first_loss for learner in self._learners) / len(self._learners)

    def advance(
        self, step: int, *, since: int | None = None, after_update: Callable[[], None] = nothing
    ) -> float:
        """Train each learner until `step`; return their mean loss; see `Learner.advance`."""
        losses = [
            learner.advance(step, since=since, after_update=after_update)
            for learner in self._learners
        ]
        return sum(losses) / len(losses)

    def rehearse(self) -> None:
        """See `SuffixLearner.rehearse`."""
        for learner in self._learners:
            learner.rehearse()

    def state(self) -> Checkpoint:
        """See `Learner.state`; the learners may have made different numbers of updates."""
        return Checkpoint.of_parts({learner.name: learner.state() for learner in self._learners})

    def check(self, state: Checkpoint) -> None:
        """See `Learner.check`."""
        for learner in self._learners:
            learner.check(state.part(learner.name))

    def restore(self, state: Checkpoint) -> None:
        """See `Learner.restore`."""
        for learner in self._learners:
            learner.restore(state.part(learner.name))

    def outcomes(self, parts: Sequence[Examples], *, share: float = 1) -> list[Outcomes]:
        """Return each learner's outcomes; see `HeadLearners.outcomes`."""
        found = []
        for learner, part in zip(self._learners, parts, strict=True):
            with learner.at(share):
                found.append(learner.outcomes(part))
        return found

    def settle(self, share: float) -> None:
        """See `Learner.settle`."""
        for learner in self._learners:
            learner.settle(share)
