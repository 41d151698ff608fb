"""`sampler:` of a search-space file: what proposes trials, one section a kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from orchestrator.space.kinds import registry_of
from orchestrator.space.section import Section
from trainable.registry import Registry, named
from trainable.spec.settings import Setting, Text

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SamplerName = Setting(help="what proposes trials", text=Text.NAME)


class SamplerSection(Section):
    """What all samplers share.

    Attributes:
        every_combination: whether trials are the combinations of discrete axes, in random order,
            and nothing is left to be proposed.
        learns: whether it learns from earlier trials, so that a study begins with the best
            parameters of the budget below.
    """

    every_combination: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    name: Annotated[str, SamplerName]

    @abstractmethod
    def make(self, *, seed: int) -> BaseSampler:
        """The sampler for one ask: made anew each time, so that it keeps nothing between asks.

        Args:
            seed: of its random draws, from 0 and below 2^32.
        """


_KINDS = "orchestrator.running.broker.sampler_kinds"

SAMPLERS: Registry[type[SamplerSection]] = registry_of(
    lambda: SamplerSection,
    tag="name",
    group="sft_sweep.samplers",
    what="a sampler",
    own={
        "tpe": named(f"{_KINDS}:TpeSection"),
        "random": named(f"{_KINDS}:RandomSection"),
        "grid": named(f"{_KINDS}:GridSection"),
    },
)
"""The sections that `sampler:` can be, by the word that `name` gives."""
