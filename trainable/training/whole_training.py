"""Training on the whole label budget, for tests and exports: repeated where it collapses.

Adam moves every weight by about the learning rate in its first updates, however small the gradient
is. From a good start the loss then leaps up, at high rates beyond that of guessing. Most trainings
come down from there and end well; a few never do, on one draw of the labels and not on another.
Validation sees it in a trial. A training on the whole budget has no validation: its own loss has to
tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainable.errors import SpecError
from trainable.spec.trial_spec import TrialSpec
from trainable.training.checkpoint import Checkpoint
from trainable.training.head_learner import HeadLearners
from trainable.training.learner import DivergedError
from trainable.training.loop import TrainingLoop, lr_of
from trainable.training.suffix_learner import SuffixLearners

LR_FACTORS = (1.0, 0.5, 0.25)
"""Factors of the learning rate, in the order in which a training that collapses is tried again."""

_RATIO = 2.0
_MARGIN = 1.05
"""Of a training that starts at guessing, such as from a head of zeros, and stays there."""
_LEAST_LOSS = 0.1
"""Losses below this are small, in nats, whatever they were at first."""
_PARTS = 20
"""Number of progress reports."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WholeTraining:
    """What a training on the whole budget came to.

    Attributes:
        learners: the trained learners.
        spec: the recipe that they were trained by, without any `auto`: with the rate that did not
            collapse, or with the given rate and `interpolation` 0 if every training collapsed.
        lr_factor: factor of the given learning rate; 0 if every training collapsed, None if none
            was made because nothing of it would be kept.
    """

    learners: HeadLearners | SuffixLearners
    spec: TrialSpec
    lr_factor: float | None


MakeLoop = Callable[[TrialSpec, Checkpoint | None], TrainingLoop]
"""Makes the loop of a training before its first update, or as a checkpoint has it."""


def train_whole(
    spec: TrialSpec,
    loop_of: MakeLoop,
    *,
    num_classes: int,
    start: Checkpoint | None = None,
    watch: Callable[[int], object] | None = None,
) -> WholeTraining:
    """Train, again at lower rates if training collapses; keep the start if it always does.

    Args:
        spec: the resolved recipe; if its `interpolation` is 0, nothing is trained, for nothing
            would be kept.
        loop_of: makes a training's loop.
        num_classes: number of classes.
        start: checkpoint to go on from, of any of the trainings.
        watch: called regularly with the number of updates that the present training has made.

    Raises:
        SpecError: the spec leaves `interpolation` to validation.
        CheckpointError: `start` belongs to another training.
    """
    share = spec.interpolation
    if isinstance(share, str):
        raise SpecError(
            f"interpolation: got {share}, which validation decides; a training on the whole budget "
            "has none. Give the number that the trial's last report has"
        )
    if not share:
        return WholeTraining(learners=loop_of(spec, None).learners, spec=spec, lr_factor=None)
    reached = lr_of(start) if start is not None else None
    for tried in specs_to_try(spec, reached=reached):
        loop = loop_of(tried, start)
        last_loss = _trained(loop, watch)
        start = None
        if not has_collapsed(loop.learners.first_loss, last_loss, num_classes=num_classes):
            loop.learners.settle(share)
            return WholeTraining(learners=loop.learners, spec=tried, lr_factor=tried.lr / spec.lr)
        del loop  # its memory is needed for the next one
    spec = replace(spec, interpolation=0.0)
    return WholeTraining(learners=loop_of(spec, None).learners, spec=spec, lr_factor=0.0)


def specs_to_try(spec: TrialSpec, *, reached: object = None) -> list[TrialSpec]:
    """Return a training at all rates that it is tried at, one after another.

    Args:
        spec: the resolved recipe.
        reached: rate of the training that goes on from a checkpoint; earlier ones are left out.
    """
    specs = [replace(spec, lr=spec.lr * factor) for factor in LR_FACTORS]
    rates = [one.lr for one in specs]
    return specs[rates.index(reached) if reached in rates else 0 :]


def has_collapsed(first_loss: float, last_loss: float, *, num_classes: int) -> bool:
    """Whether a training has lost what it started from.

    Its loss is not small, and has doubled or come nearer to that of guessing than to the first one.

    Args:
        first_loss: loss of the first update's batch, computed before that update.
        last_loss: mean loss of the last updates; infinite if training has diverged.
        num_classes: number of classes.
    """
    half_lost = (first_loss + math.log(num_classes)) / 2
    return last_loss > max(min(_RATIO * first_loss, _MARGIN * half_lost), _LEAST_LOSS)


def _trained(loop: TrainingLoop, watch: Callable[[int], object] | None) -> float:
    """Train to the end; return the mean loss of the last updates, infinite if it diverged."""
    loss = 0.0
    try:
        for segment in loop.spans(_PARTS):
            mean = loop.advance(segment)
            if segment.since < segment.step:  # few updates leave some segments without any
                loss = mean
            if watch is not None and segment.step:
                watch(segment.step)
    except DivergedError:
        return math.inf
    return loss
