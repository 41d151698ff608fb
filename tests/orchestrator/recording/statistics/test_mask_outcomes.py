"""Pseudo-values of masks against the scores of all images but one, computed one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import t

from orchestrator.recording.mask_answers import MaskAnswers
from orchestrator.recording.statistics.intervals import difference_interval, score_interval
from orchestrator.recording.statistics.outcomes import (
    mean_outcomes,
    miou_outcomes,
    ratio_outcomes,
)
from trainable.data.masks import IGNORED
from trainable.spec.metrics import Metric
from trainable.tasks.segmentation.scores import confusion, score_masks

REPEATS, IMAGES, CLASSES = 3, 9, 4
Counts = NDArray[np.int64]


def confusions(seed: int, *, alone: bool = False) -> torch.Tensor:
    """(R, N, C, C) counts; class 3 is in no mask, and class 2 in the last one alone if asked to."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.randint(3, (IMAGES, 6, 7), generator=random)
    if alone:
        masks[:-1][masks[:-1] == 2] = 0
    masks[torch.rand(masks.shape, generator=random) < 0.1] = IGNORED
    found = []
    for _ in range(REPEATS):
        other = torch.randint(CLASSES, masks.shape, generator=random)
        right = torch.rand(masks.shape, generator=random) < 0.6
        predicted = torch.where(right & (masks != IGNORED), masks, other)
        pairs = zip(predicted, masks.to(torch.uint8), strict=True)
        found.append(torch.stack([confusion(*pair, num_classes=CLASSES) for pair in pairs]))
    return torch.stack(found)


def counts_of(found: torch.Tensor) -> Counts:
    """(R, N, C, 3) counts of pixels rightly predicted, true, and predicted."""
    parts = [found.diagonal(dim1=2, dim2=3), found.sum(dim=3), found.sum(dim=2)]
    return np.asarray(torch.stack(parts, dim=3).numpy())


def miou(found: torch.Tensor) -> float:
    return score_masks(found, torch.zeros(len(found))).miou


def test_scores_are_those_of_validation() -> None:
    found = confusions(0)
    expected = [miou(one) for one in found]
    assert miou_outcomes(counts_of(found)).scores == pytest.approx(expected, abs=1e-12)


def test_pseudo_values_are_those_of_leaving_one_image_out() -> None:
    found = confusions(1)
    scores = np.array([[miou(one)] for one in found])
    without = np.array(
        [[miou(one[torch.arange(IMAGES) != left]) for left in range(IMAGES)] for one in found]
    )
    expected = IMAGES * scores - (IMAGES - 1) * without
    expected += scores - expected.mean(axis=1, keepdims=True)
    outcomes = miou_outcomes(counts_of(found))
    assert outcomes.pseudo == pytest.approx(expected, abs=1e-10)
    assert outcomes.is_valid


def test_a_class_of_one_image_alone_keeps_its_term_when_that_image_is_left_out() -> None:
    found = confusions(2, alone=True)
    counts = counts_of(found)
    held = counts[0, :, :, 1] > 0
    assert held[:, 2].tolist() == [False] * (IMAGES - 1) + [True]
    assert not held[:, 3].any()
    outcomes = miou_outcomes(counts)
    for repeat, one in enumerate(found):
        whole = score_masks(one, torch.zeros(IMAGES))
        others = score_masks(one[:-1], torch.zeros(IMAGES - 1))
        kept = float(np.mean([*others.iou[:2], whole.iou[2]]))
        change = IMAGES * whole.miou - (IMAGES - 1) * kept
        shift = outcomes.pseudo[repeat, 0] - (IMAGES * whole.miou - (IMAGES - 1) * miou(one[1:]))
        assert outcomes.pseudo[repeat, -1] - shift == pytest.approx(change, abs=1e-10)


def test_intervals_hold_the_score_and_equal_predictions_differ_by_nothing() -> None:
    one, other = (miou_outcomes(counts_of(confusions(seed))) for seed in (3, 4))
    interval = score_interval(one)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(float(one.scores.mean()))
    assert difference_interval(one, one) == (0.0, 0.0, 0.0)
    assert difference_interval(one, other).mean == pytest.approx(
        float(one.scores.mean() - other.scores.mean())
    )


def test_intervals_of_masks_weigh_the_quantiles_of_draws_and_images_with_their_variances() -> None:
    counts = [counts_of(confusions(seed)) for seed in (3, 4)]
    one, other = (
        MaskAnswers(
            repeats=np.arange(REPEATS),
            known=np.ones((REPEATS, IMAGES), dtype=np.bool_),
            pixels=each,
            losses=np.ones((REPEATS, IMAGES)),
        ).outcomes(Metric.MIOU)
        for each in counts
    )
    pseudo = one.pseudo - other.pseudo
    of_draws = pseudo.mean(axis=1).var(ddof=1) / REPEATS
    of_images = pseudo.mean(axis=0).var(ddof=1) / IMAGES
    variance = of_draws + of_images
    quantile = of_draws * t.ppf(0.975, REPEATS - 1) + of_images * t.ppf(0.975, IMAGES - 1)
    found = difference_interval(one, other)
    assert found.high - found.mean == pytest.approx(quantile / variance * np.sqrt(variance))
    answers = difference_interval(*(replace(each, of_pixels=False) for each in (one, other)))
    assert answers.mean == found.mean
    assert answers.high < found.high  # Satterthwaite's


def parts_and_wholes(seed: int) -> tuple[Counts, Counts]:
    """(R, N) counts of right pixels and of all pixels with a class."""
    random = np.random.default_rng(seed)
    wholes = random.integers(1, 50, (REPEATS, IMAGES))
    return random.integers(0, wholes, endpoint=True), wholes


def test_ratios_are_of_sums_and_their_pseudo_values_of_leaving_one_image_out() -> None:
    parts, wholes = parts_and_wholes(0)
    outcomes = ratio_outcomes(parts, wholes)
    scores = parts.sum(axis=1) / wholes.sum(axis=1)
    assert outcomes.scores == pytest.approx(scores, abs=1e-12)
    expected = np.empty(parts.shape)
    for repeat in range(REPEATS):
        for left in range(IMAGES):
            others = np.arange(IMAGES) != left
            without = parts[repeat, others].sum() / wholes[repeat, others].sum()
            expected[repeat, left] = IMAGES * scores[repeat] - (IMAGES - 1) * without
    expected += scores[:, None] - expected.mean(axis=1, keepdims=True)
    assert outcomes.pseudo == pytest.approx(expected, abs=1e-10)
    assert outcomes.values == pytest.approx(parts / wholes)
    assert outcomes.is_valid


def test_a_ratio_over_equal_wholes_is_a_mean() -> None:
    parts, wholes = parts_and_wholes(1)
    equal = np.full_like(wholes, 50)
    ratio, mean = ratio_outcomes(parts, equal), mean_outcomes(parts / equal)
    assert ratio.pseudo == pytest.approx(mean.pseudo, abs=1e-12)
    assert score_interval(ratio) == pytest.approx(score_interval(mean))


def test_the_ratio_of_one_image_is_its_share() -> None:
    outcomes = ratio_outcomes(np.array([[3]]), np.array([[4]]))
    assert outcomes.pseudo.tolist() == [[0.75]]


def test_the_share_of_right_pixels_is_that_of_validation() -> None:
    found = confusions(5)
    counts = counts_of(found)
    outcomes = ratio_outcomes(counts[..., 0].sum(axis=2), counts[..., 1].sum(axis=2))
    expected = [score_masks(one, torch.zeros(IMAGES)).pixel_accuracy for one in found]
    assert outcomes.scores == pytest.approx(expected, abs=1e-12)
