"""The one rule by which configurations are ranked: by validation, never by the test set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainable.spec.trial_spec import Metric


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What decides the rank of a configuration within its study.

    Attributes:
        objective: its validation score by the metric of the sweep.
        is_probe: whether it is a linear probe, for which no network is trained.
        loss: its validation loss.
        trainable_params: parameters that are trained.
        lr: its learning rate.
        trial_id: as tables show it; ids of a study count up.
    """

    objective: float | None
    is_probe: bool
    loss: float | None
    trainable_params: int | None
    lr: float | None
    trial_id: str

    def key(self, metric: Metric) -> tuple[float, bool, float, float, float, int, str]:
        """Sorts the best first; a total order of distinct ids.

        The objective decides. On equal ones a probe comes before what was fine-tuned, then the
        lower loss, the fewer trained parameters, the smaller learning rate, the earlier trial.
        What is unknown or not a number comes last.
        """
        objective = _last_if_unknown(self.objective)
        return (
            -objective if metric.maximize and objective != math.inf else objective,
            not self.is_probe,
            _last_if_unknown(self.loss),
            _last_if_unknown(self.trainable_params),
            _last_if_unknown(self.lr),
            len(self.trial_id),  # past 9999 numbers are longer
            self.trial_id,
        )


def _last_if_unknown(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
