"""The ranking of configurations: by validation, never by the test set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainable.spec.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The values that determine the rank of a configuration within its study.

    Attributes:
        objective: its validation score by the metric of the sweep.
        is_probe: whether it is a linear probe, which trains no network.
        loss: its validation loss.
        trainable_params: number of trained parameters.
        lr: its learning rate.
        trial_id: id in the tables; ids of a study are numbered in the order of its trials.
    """

    objective: float | None
    is_probe: bool
    loss: float | None
    trainable_params: int | None
    lr: float | None
    trial_id: str

    def key(self, metric: Metric) -> tuple[float, bool, float, float, float, int, str]:
        """Return a sort key, smallest for the best; a total order of distinct ids.

        Criteria in order: the objective, probes before fine-tuned configurations, lower loss, fewer
        trained parameters, smaller learning rate, earlier trial. Unknown values and NaN come last.
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
