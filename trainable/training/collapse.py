"""Trainings that collapse: how they are known, and at which rates they are repeated.

Adam moves every weight by about the learning rate in its first updates, however small the gradient
is. From a good start the loss then leaps up, at high rates beyond that of guessing. Most trainings
come down from there and end well; a few never do, on one draw of the labels and not on another.
Validation sees it in a trial. A training on the whole label budget has no validation: its own loss
has to tell.
"""

from __future__ import annotations

from dataclasses import replace

from trainable.spec.trial_spec import TrialSpec

LR_FACTORS = (1.0, 0.5, 0.25)
"""Factors of the learning rate, in the order in which a training that collapses is tried again."""

_RATIO = 2.0
_LEAST_LOSS = 0.1
"""Losses below this are small, in nats, whatever they were at first."""


def has_collapsed(first_loss: float, last_loss: float) -> bool:
    """Whether a training has lost what it started from.

    Args:
        first_loss: loss of the first update's batch, computed before that update.
        last_loss: mean loss of the last updates.
    """
    return last_loss > max(_RATIO * first_loss, _LEAST_LOSS)


def attempts_of(spec: TrialSpec, *, reached: object = None) -> list[TrialSpec]:
    """Return a training at all rates that it is tried at, one after another.

    There is none if `interpolation` is 0, which keeps nothing of a training.

    Args:
        spec: the resolved recipe.
        reached: rate of the attempt that goes on from a checkpoint; earlier ones are left out.
    """
    if spec.interpolation == 0:
        return []
    attempts = [replace(spec, lr=spec.lr * factor) for factor in LR_FACTORS]
    rates = [attempt.lr for attempt in attempts]
    return attempts[rates.index(reached) if reached in rates else 0 :]
