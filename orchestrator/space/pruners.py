"""`pruner:` of a search-space file: the rule that stops poor trials early, one section per kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated

from orchestrator.space.kinds import registry_of
from orchestrator.space.section import Section
from trainable.registry import Registry, named
from trainable.spec.setting import Setting, Text

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

PrunerName = Setting(help="what ends poor trials early", text=Text.NAME)


class PrunerSection(Section):
    """The section that all pruners share."""

    name: Annotated[str, PrunerName]

    @abstractmethod
    def make(self, *, first: int, reports: int) -> BasePruner:
        """Return the pruner of a study. Optuna's step is the report number; the start is 0.

        Args:
            first: report at which pruning can begin if the file does not set it: the first one at
                half of the steps or later. Early in training, near the peak learning rate, scores
                favour trials that have moved least from a good start.
            reports: largest number of reports of a trial after its start.
        """


_KINDS = "orchestrator.running.broker.pruner_kinds"

PRUNERS: Registry[type[PrunerSection]] = registry_of(
    lambda: PrunerSection,
    tag="name",
    group="sft_sweep.pruners",
    what="a pruner",
    own={
        "median": named(f"{_KINDS}:MedianSection"),
        "percentile": named(f"{_KINDS}:PercentileSection"),
        "hyperband": named(f"{_KINDS}:HyperbandSection"),
        "successive_halving": named(f"{_KINDS}:SuccessiveHalvingSection"),
        "none": named(f"{_KINDS}:NoPrunerSection"),
    },
)
"""The sections that `pruner:` can be, by the value of `name`."""
