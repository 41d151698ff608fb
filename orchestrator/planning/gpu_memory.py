"""GPU memory of trials, and the number of trials that fit on one GPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.planning.inputs import backbones
from orchestrator.planning.plan import Plan
from orchestrator.space import Domain, Range, SearchSpace, Value
from trainable.spec.settings import SIZES
from trainable.spec.trial_spec import TrialSpec

ROOM = 0.85
"""Fraction of GPU memory that trials may fill together, by their measured use. The rest is for
differences between trials and for fragmentation."""

MOST_PER_GPU = 16
"""Most trials on one GPU, however little memory they use: they share its compute."""

_LEAST, _MOST = ("freeze_depth", "frozen_blocks"), ("batch_size", *SIZES.values())
"""Axes whose smallest, and axes whose largest value uses the most memory."""


@dataclass(frozen=True)
class GpuMemory:
    """Measured GPU memory of one trial.

    Attributes:
        held_bytes: peak use, the CUDA context of the process included.
        total_bytes: memory of the GPU.
    """

    held_bytes: int
    total_bytes: int


def pieces_per_gpu(footprints: Iterable[GpuMemory]) -> int:
    """Number of trials that fit on one GPU, sized for the largest of the measured trials."""
    largest = max(found.held_bytes / found.total_bytes for found in footprints)
    return max(1, min(MOST_PER_GPU, int(ROOM / largest)))


def share_of_gpu(pieces: int) -> float:
    """GPU fraction to request for each of `pieces` trials; Ray counts in ten thousandths."""
    return 10_000 // pieces / 10_000


def heaviest_trials(space: SearchSpace, plan: Plan) -> list[TrialSpec]:
    """For each backbone the trial that uses the most memory.

    It freezes the least, and has the largest batch and image size and the largest label budget.
    """
    budget = plan.studies[-1].budget
    return [space.spec(_heaviest(space, backbone), budget) for backbone in backbones(space)]


def _heaviest(space: SearchSpace, backbone: str) -> dict[str, Value]:
    chosen: dict[str, Value] = {}
    for name, axis in space.axes.items():
        domain = axis.resolve(chosen)
        if domain is not None:
            chosen[name] = backbone if name == "backbone" else _extreme(name, domain)
    return chosen


def _extreme(name: str, domain: Domain) -> Value:
    """The value that uses the most memory; the first one if the axis does not affect memory."""
    values = [domain.low, domain.high] if isinstance(domain, Range) else list(domain.each())
    numbers = [value for value in values if isinstance(value, int | float)]
    if name in _LEAST and numbers:
        return min(numbers, key=lambda value: (value < 0, value))  # -1 freezes all
    if name in _MOST and numbers:
        return max(numbers)
    return values[0]
