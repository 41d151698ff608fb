"""Segmentation as a task: targets, losses, outcomes, and the choice between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss
from torch import Tensor
from torch.nn import functional

from tests.builders.masked_examples import from_pixels, masked_examples
from trainable.data.masks import IGNORED, Mask
from trainable.spec.metrics import METRICS, Metric
from trainable.tasks import Targets, joined, task_called
from trainable.tasks.segmentation.scores import score_masks
from trainable.tasks.segmentation.task import SEGMENTATION

CPU = torch.device("cpu")
SIZE = 24
SOME = np.array([4, 1, 0, 2])


def mask_of(*rows: list[int]) -> Mask:
    return np.array(rows, dtype=np.uint8)


def targets_of(*masks: Mask, size: int) -> Targets:
    """Targets of images of the size of their masks."""
    examples = from_pixels([np.zeros((*mask.shape, 3), np.uint8) for mask in masks], masks)
    return SEGMENTATION.targets(examples, np.arange(len(masks)), size=size, device=CPU)


def some_targets() -> tuple[Targets, list[Mask]]:
    """Targets of images of several shapes, none of the network's size, and their masks."""
    examples = masked_examples()
    assert examples.masks is not None
    masks = [examples.masks.mask(index) for index in SOME.tolist()]
    assert {mask.shape for mask in masks} == {(32, 32), (32, 40), (40, 32)}
    return SEGMENTATION.targets(examples, SOME, size=SIZE, device=CPU), masks


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def enlarged(logits: Tensor, mask: Mask) -> npt.NDArray[np.float32]:
    """(C, H, W) logits at the resolution of a mask."""
    return functional.interpolate(logits[None], size=mask.shape, mode="bilinear")[0].numpy()


# Losses


def test_the_loss_of_an_image_is_the_mean_over_its_pixels_with_a_class() -> None:
    masks = mask_of([0, 1, IGNORED], [2, 2, 0], [1, 0, 0]), mask_of(*[[2, IGNORED, 1]] * 3)
    targets = targets_of(*masks, size=3)
    logits = drawn(2, 3, 3, 3)
    for smoothing in (0.0, 0.2):
        expected = []
        for mask, one in zip(masks, logits, strict=True):
            kept = torch.from_numpy(mask != IGNORED)
            labels = torch.from_numpy(mask)[kept].long()
            expected.append(
                functional.cross_entropy(one[:, kept].T, labels, label_smoothing=smoothing)
            )
        found = targets.losses(logits, label_smoothing=smoothing)
        assert torch.allclose(found, torch.stack(expected))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_image_whose_pixels_are_all_ignored_loses_nothing_and_teaches_nothing(
    smoothing: float,
) -> None:
    targets = targets_of(mask_of(*[[IGNORED] * 4] * 4), mask_of(*[[1] * 4] * 4), size=4)
    logits = drawn(2, 3, 4, 4).requires_grad_()
    losses = targets.losses(logits, label_smoothing=smoothing)
    assert losses[0] == 0
    assert losses[1] > 0
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert logits.grad[1].all()


def test_losses_of_logits_of_low_precision_are_those_of_the_same_numbers() -> None:
    targets, masks = some_targets()
    low = drawn(len(masks), 3, SIZE, SIZE).bfloat16()
    found = targets.losses(low, label_smoothing=0.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, targets.losses(low.float(), label_smoothing=0.0))


def test_networks_are_trained_on_masks_of_the_size_of_their_input() -> None:
    whole = np.repeat(np.repeat(mask_of([0, 1, 2], [2, IGNORED, 1]), 4, axis=0), 2, axis=1)
    targets = targets_of(whole, size=2)  # (8, 6) -> (2, 2): the corners' classes, nearest
    logits = drawn(1, 3, 2, 2)
    expected = functional.cross_entropy(logits, torch.tensor([[[0, 2], [2, 1]]]))
    assert torch.allclose(targets.losses(logits, label_smoothing=0.0), expected[None])


def test_placeholders_are_images_of_one_class_each() -> None:
    targets = task_called("segmentation").placeholders(5, num_classes=3, size=6, device=CPU)
    assert len(targets) == 5
    logits = drawn(5, 3, 6, 6)
    expected = [
        functional.cross_entropy(logits[i : i + 1], torch.full((1, 6, 6), i % 3)) for i in range(5)
    ]
    assert torch.allclose(targets.losses(logits, label_smoothing=0.0), torch.stack(expected))


# Outcomes


def test_outcomes_are_counted_at_the_resolution_of_each_mask() -> None:
    targets, masks = some_targets()
    logits = drawn(len(masks), 3, SIZE, SIZE)
    counts, losses, _ = targets.outcomes(logits)
    assert (counts.dtype, losses.dtype) == (torch.int64, torch.float64)
    for row, mask in enumerate(masks):
        kept = mask != IGNORED
        scores = enlarged(logits[row], mask)[:, kept]
        expected = confusion_matrix(mask[kept], scores.argmax(axis=0), labels=range(3))
        assert np.array_equal(counts[row].numpy(), expected)
        probabilities = torch.from_numpy(scores).double().softmax(dim=0).numpy().T
        loss = log_loss(mask[kept], probabilities, labels=range(3))
        assert float(losses[row]) == pytest.approx(loss, rel=1e-5)


def test_outcomes_of_batches_joined_are_those_of_the_whole() -> None:
    targets, masks = some_targets()
    logits = drawn(len(masks), 3, SIZE, SIZE)
    whole = targets.outcomes(logits)
    parts = [
        targets.at(positions).outcomes(logits[positions])
        for positions in (torch.tensor([0]), torch.tensor([1, 2, 3]))
    ]
    assert all(torch.equal(a, b) for a, b in zip(joined(parts), whole, strict=True))


def test_targets_at_positions_are_in_their_order() -> None:
    targets, masks = some_targets()
    order = torch.tensor([2, 0, 3, 1, 0])
    logits = drawn(len(masks), 3, SIZE, SIZE)
    taken = targets.at(order)
    assert len(taken) == len(order)
    for found, expected in zip(
        taken.outcomes(logits[order]), targets.outcomes(logits), strict=True
    ):
        assert torch.equal(found, expected[order])
    losses = targets.losses(logits, label_smoothing=0.0)
    assert torch.equal(taken.losses(logits[order], label_smoothing=0.0), losses[order])


# Scores and results


def test_a_result_holds_the_pixels_that_its_scores_are_made_of() -> None:
    targets, masks = some_targets()
    outcomes = targets.outcomes(drawn(len(masks), 3, SIZE, SIZE))
    counts, losses, shown = outcomes
    result = SEGMENTATION.result(outcomes)
    assert result.scores == SEGMENTATION.scores(outcomes) == score_masks(counts, losses)
    arrays = result.arrays()
    assert np.array_equal(arrays["confusion"], counts.sum(dim=0).numpy())
    assert np.array_equal(arrays["losses"], losses.numpy().astype(np.float32))
    worst = arrays["worst"].tolist()
    own = [score_masks(counts[row : row + 1], losses[row : row + 1]).miou for row in worst]
    assert own == sorted(own)
    assert np.array_equal(arrays["worst_masks"], shown[worst].numpy())
    found, true, given = np.moveaxis(arrays["pixels"], 2, 0)
    for row, mask in enumerate(masks):
        held = np.bincount(mask[mask != IGNORED], minlength=3)
        assert np.array_equal(true[row], held)
        assert given[row].sum() == held.sum()
    assert np.array_equal(found.sum(axis=0), arrays["confusion"].diagonal())
    assert np.array_equal(true.sum(axis=0), arrays["confusion"].sum(axis=1))
    assert np.array_equal(given.sum(axis=0), arrays["confusion"].sum(axis=0))


def test_a_segmentation_has_no_accuracy_of_images() -> None:
    targets, masks = some_targets()
    scores = SEGMENTATION.scores(targets.outcomes(drawn(len(masks), 3, SIZE, SIZE)))
    assert scores.accuracy is scores.balanced_accuracy is None
    assert set(METRICS["segmentation"]) <= set(scores.to_json())


@pytest.mark.parametrize("metric", METRICS["segmentation"])
def test_equal_positions_give_the_one_nearest_to_the_start(metric: Metric) -> None:
    targets, masks = some_targets()
    same = targets.outcomes(drawn(len(masks), 3, SIZE, SIZE))
    assert SEGMENTATION.best_share(dict.fromkeys((1.0, 0.5, 0.25), same), metric) == 0.25


@pytest.mark.parametrize(
    ("metric", "best"), [(Metric.MIOU, 0.5), (Metric.PIXEL_ACCURACY, 0.25), (Metric.LOG_LOSS, 1.0)]
)
def test_the_best_position_is_that_of_the_objective(metric: Metric, best: float) -> None:
    mask = mask_of(*[[0] * 10] * 9, [1] * 10)
    targets = targets_of(mask, size=10)
    right = torch.from_numpy(mask).long()

    def predicted(found: Tensor, margin: float) -> tuple[Tensor, ...]:
        return targets.outcomes(margin * functional.one_hot(found, 3).permute(2, 0, 1)[None])

    only_zeros = predicted(torch.zeros_like(right), 20.0)  # 90 of 100 pixels, and half the classes
    generous = torch.where(torch.arange(10)[:, None] > 6, 1, right)  # 80 pixels, and both classes
    unsure = predicted((right + 1) % 3, 1e-3)  # nothing right, but without confidence
    path = {0.25: only_zeros, 0.5: predicted(generous, 20.0), 1.0: unsure}
    assert SEGMENTATION.best_share(path, metric) == best
