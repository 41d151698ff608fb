"""How much of a GPU a trial takes, and so how many fit on one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.planning.inputs import backbones
from orchestrator.planning.plan import Plan
from orchestrator.space import Domain, Range, SearchSpace, Value
from trainable.spec.trial_spec import TrialSpec

ROOM = 0.85
"""Share of a GPU that trials together may have held when they were measured: they differ a little,
and memory comes in pieces."""

MOST_PER_GPU = 16
"""Trials on one GPU, however small: they share its processors."""

_LEAST, _MOST = ("freeze_depth", "frozen_blocks"), ("batch_size", "image_size")
"""Axes of whose values the smallest, or the largest, takes the most memory."""


@dataclass(frozen=True)
class GpuMemory:
    """What one trial held of a GPU.

    Attributes:
        held_bytes: at its height, with what the process itself takes.
        total_bytes: that the GPU has.
    """

    held_bytes: int
    total_bytes: int


def pieces_per_gpu(footprints: Iterable[GpuMemory]) -> int:
    """How many trials fit on a GPU, whichever of those that were measured they are."""
    largest = max(found.held_bytes / found.total_bytes for found in footprints)
    return max(1, min(MOST_PER_GPU, int(ROOM / largest)))


def share_of_gpu(pieces: int) -> float:
    """What each of so many trials asks of a GPU; Ray counts in ten thousandths."""
    return 10_000 // pieces / 10_000


def heaviest_trials(space: SearchSpace, plan: Plan) -> list[TrialSpec]:
    """For each backbone the trial that takes most memory: least frozen, largest in all else."""
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
    """The value of a domain that takes most memory; any where that does not depend on it."""
    values = [domain.low, domain.high] if isinstance(domain, Range) else list(domain.each())
    numbers = [value for value in values if isinstance(value, int | float)]
    if name in _LEAST and numbers:
        return min(numbers, key=lambda value: (value < 0, value))  # -1 freezes all blocks but one
    if name in _MOST and numbers:
        return max(numbers)
    return values[0]
