"""Classification as a task: targets, losses, outcomes, and the choice between them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trainable.errors import DataError
from trainable.spec.metrics import Metric
from trainable.tasks import Outcomes, joined, task_called
from trainable.tasks.classification.scores import score
from trainable.tasks.classification.task import CLASSIFICATION, ClassTargets

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def predicted(right: int, margin: float) -> Outcomes:
    """Outcomes of three classes: the first `right` are right, and all have the same margin."""
    named = torch.where(torch.arange(len(LABELS)) < right, LABELS, (LABELS + 1) % 3)
    return ClassTargets(LABELS).outcomes(margin * functional.one_hot(named, 3))


@pytest.mark.parametrize("metric", Metric)
def test_equal_positions_give_the_one_nearest_to_the_start(metric: Metric) -> None:
    same = predicted(4, 2.0)
    assert CLASSIFICATION.best_share(dict.fromkeys((1.0, 0.5, 0.25), same), metric) == 0.25


def test_overconfidence_counts_only_if_log_loss_is_the_objective() -> None:
    path = {0.0: predicted(3, 1.0), 1.0: predicted(4, 9.0)}
    assert CLASSIFICATION.best_share(path, Metric.ACCURACY) == 1.0
    assert CLASSIFICATION.best_share(path, Metric.BALANCED_ACCURACY) == 1.0
    assert CLASSIFICATION.best_share(path, Metric.LOG_LOSS) == 0.0


def test_outcomes_of_batches_joined_are_those_of_the_whole_and_are_scored_as_it() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    targets = ClassTargets(LABELS)
    whole = targets.outcomes(logits)
    parts = [
        targets.at(positions).outcomes(logits[positions])
        for positions in (torch.tensor([0, 1]), torch.tensor([2, 3, 4, 5]))
    ]
    assert all(torch.equal(a, b) for a, b in zip(joined(parts), whole, strict=True))
    log_probabilities = functional.log_softmax(logits.double(), dim=1)
    assert CLASSIFICATION.scores(whole) == score(log_probabilities, LABELS)
    result = CLASSIFICATION.result(whole, all_probabilities=True)
    assert result.arrays()["predicted"].tolist() == logits.argmax(dim=1).tolist()
    assert result.arrays()["probabilities"] is not None
    assert torch.allclose(
        torch.from_numpy(result.arrays()["probabilities"]).log(), log_probabilities.float()
    )


def test_losses_are_those_of_each_example() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    targets = task_called("classification").placeholders(
        6, num_classes=3, size=8, device=torch.device("cpu")
    )
    found = targets.losses(logits, label_smoothing=0.1)
    expected = [
        functional.cross_entropy(logits[i : i + 1], torch.tensor([i % 3]), label_smoothing=0.1)
        for i in range(6)
    ]
    assert torch.allclose(found, torch.stack(expected))


def test_a_task_that_cannot_be_trained_yet_is_told() -> None:
    with pytest.raises(DataError, match="detection: cannot be trained yet; allowed: classif"):
        task_called("detection")
