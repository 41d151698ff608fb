import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from torch.nn import functional

from trainable.spec.metrics import Metric
from trainable.tasks.classification.scores import calibrated_log_loss, score


def logs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    classes=st.integers(2, 6),
    present=st.integers(1, 6),
)
def test_scores_agree_with_scikit_learn(seed: int, count: int, classes: int, present: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, min(classes, present), count)
    predictions = torch.log_softmax(torch.from_numpy(rng.normal(size=(count, classes)) * 3), dim=1)
    scores = score(predictions, torch.from_numpy(labels))
    predicted = predictions.argmax(dim=1).numpy()
    assert scores.accuracy == pytest.approx(accuracy_score(labels, predicted))
    recalls = [np.mean(predicted[labels == label] == label) for label in np.unique(labels)]
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    if len(set(labels)) > 1 and set(predicted) <= set(labels):  # else scikit-learn warns
        expected = balanced_accuracy_score(labels, predicted)
        assert scores.balanced_accuracy == pytest.approx(expected)
    present_classes = np.unique(labels)
    assert scores.macro_f1 == pytest.approx(
        f1_score(labels, predicted, labels=present_classes, average="macro", zero_division=0)
    )
    if len(present_classes) > 1:
        areas = [
            roc_auc_score(labels == label, predictions[:, label].numpy())
            for label in present_classes
        ]
        assert scores.auroc == pytest.approx(np.mean(areas))
    expected = log_loss(labels, predictions.exp().numpy(), labels=range(classes))
    assert scores.log_loss == pytest.approx(expected)
    assert scores.count == count


def test_balanced_accuracy_weighs_classes_alike() -> None:
    predictions = logs(*[[0.9, 0.1]] * 10)
    scores = score(predictions, torch.tensor([0] * 9 + [1]))
    assert scores.accuracy == pytest.approx(0.9)
    assert scores.balanced_accuracy == pytest.approx(0.5)


def test_ties_of_the_area_under_the_curve_count_half_and_one_class_alone_is_chance() -> None:
    tied = logs(*[[0.5, 0.5]] * 4)
    assert score(tied, torch.tensor([0, 0, 1, 1])).auroc == 0.5
    assert score(logs([0.9, 0.1], [0.6, 0.4]), torch.tensor([0, 0])).auroc == 0.5
    half = logs([0.9, 0.1], [0.5, 0.5], [0.5, 0.5])
    assert score(half, torch.tensor([0, 0, 1])).auroc == 0.75


def test_a_class_that_is_only_predicted_has_no_f1_of_its_own() -> None:
    predictions = logs([0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1])
    assert score(predictions, torch.tensor([0, 0, 1])).macro_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_calibration_error_of_one_bin_is_the_gap_of_its_means() -> None:
    predictions = logs([0.82, 0.18], [0.84, 0.16], [0.82, 0.18], [0.84, 0.16])
    scores = score(predictions, torch.tensor([0, 0, 0, 1]))
    assert scores.ece == pytest.approx(0.83 - 0.75)


def test_calibration_error_weighs_bins_by_their_images_and_sums_gaps_of_either_sign() -> None:
    predictions = logs([0.95, 0.05], [0.95, 0.05], [0.95, 0.05], [0.6, 0.4])
    scores = score(predictions, torch.tensor([0, 0, 1, 0]))
    over, under = 0.95 - 2 / 3, 1 - 0.6
    assert scores.ece == pytest.approx(3 / 4 * over + 1 / 4 * under)


def test_calibration_has_fifteen_bins() -> None:
    # 0.66 lies in bin 9, 0.67 in bin 10, of 15: their gaps do not cancel.
    predictions = logs([0.66, 0.34], [0.67, 0.33])
    apart = score(predictions, torch.tensor([0, 1])).ece
    assert apart == pytest.approx((0.34 + 0.67) / 2)
    predictions = logs([0.68, 0.32], [0.72, 0.28])
    together = score(predictions, torch.tensor([0, 1])).ece
    assert together == pytest.approx((0.68 + 0.72 - 1) / 2)


def test_certain_and_right_is_perfect() -> None:
    scores = score(logs([1.0, 0.0], [0.0, 1.0]), torch.tensor([0, 1]))
    assert (scores.accuracy, scores.balanced_accuracy, scores.log_loss, scores.ece) == (1, 1, 0, 0)


def test_objective_is_the_score_that_the_metric_names() -> None:
    scores = score(logs(*[[0.8, 0.2]] * 3), torch.tensor([0, 0, 1]))
    assert scores.objective(Metric.ACCURACY) == pytest.approx(2 / 3)
    assert scores.objective(Metric.BALANCED_ACCURACY) == pytest.approx(1 / 2)
    assert scores.objective(Metric.MACRO_F1) == pytest.approx(2 / 5)
    assert scores.objective(Metric.AUROC) == 0.5
    expected = -(2 * math.log(0.8) + math.log(0.2)) / 3
    assert scores.objective(Metric.LOG_LOSS) == pytest.approx(expected)


def test_the_calibrated_log_loss_is_that_of_the_best_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    losses = {
        factor: calibrated_log_loss((factor * logits).log_softmax(dim=1), labels)
        for factor in (0.2, 1.0, 5.0)
    }
    temperatures = torch.linspace(-3, 3, 2001, dtype=torch.float64).exp()
    best = min(
        float(functional.cross_entropy(logits / temperature, labels))
        for temperature in temperatures
    )
    assert losses == pytest.approx(dict.fromkeys(losses, best), abs=1e-5)
    assert best < score((5 * logits).log_softmax(dim=1), labels).log_loss


def test_predictions_that_are_all_right_cost_nearly_nothing_once_calibrated() -> None:
    labels = torch.arange(3)
    predictions = functional.log_softmax(2 * torch.eye(3), dim=1)
    assert calibrated_log_loss(predictions, labels) < 1e-9
