"""`sampler:` of a search-space file: the proposal of trials, one section per kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from orchestrator.space.kinds import registry_of
from orchestrator.space.section import Section
from trainable.registry import Registry, named
from trainable.spec.setting import Setting, Text

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SamplerName = Setting(help="what proposes trials", text=Text.NAME)


class SamplerSection(Section):
    """The section that all samplers share.

    Attributes:
        every_combination: whether the trials are all combinations of discrete axes, in random
            order, so that nothing is proposed.
        learns: whether it learns from earlier trials; a study then begins with the best
            parameters of the next smaller budget.
    """

    every_combination: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    name: Annotated[str, SamplerName]

    @abstractmethod
    def make(self, *, seed: int) -> BaseSampler:
        """Return the sampler for one ask. Each ask makes a new one, so it has no state.

        Args:
            seed: seed of its random draws, 0 to 2^32 - 1.
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
"""The sections that `sampler:` can be, by the value of `name`."""
