from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score, log_loss
from torch import Tensor

from trainable.data.masks import IGNORED
from trainable.tasks.segmentation.scores import confusion, pixel_loss, score_masks


def drawn(seed: int, *shape: int, num_classes: int, ignored: float = 0.1) -> tuple[Tensor, Tensor]:
    """Predicted class ids and a mask that often agree, with some pixels ignored."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.randint(num_classes, shape, generator=random)
    other = torch.randint(num_classes, shape, generator=random)
    predicted = torch.where(torch.rand(shape, generator=random) < 0.6, mask, other)
    mask[torch.rand(shape, generator=random) < ignored] = IGNORED
    return predicted, mask.to(torch.uint8)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=25, deadline=None)
def test_counts_are_those_of_scikit_learn(seed: int, num_classes: int) -> None:
    predicted, mask = drawn(seed, 9, 13, num_classes=num_classes)
    kept = mask != IGNORED
    expected = confusion_matrix(mask[kept], predicted[kept], labels=np.arange(num_classes))
    found = confusion(predicted, mask, num_classes=num_classes)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), expected)


def all_pixels(
    masks: list[tuple[Tensor, Tensor]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """True and predicted classes of all pixels that count."""
    kept = [(mask[mask != IGNORED], predicted[mask != IGNORED]) for predicted, mask in masks]
    true, given_ = (torch.cat(parts).numpy() for parts in zip(*kept, strict=True))
    return true.astype(np.int64), given_


def test_scores_of_several_images_are_those_of_all_their_pixels() -> None:
    masks = [drawn(seed, 8 + seed, 7, num_classes=5) for seed in range(4)]
    counts = torch.stack([confusion(*one, num_classes=6) for one in masks])  # nothing is of class 5
    scores = score_masks(counts, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    true, predicted = all_pixels(masks)
    expected = jaccard_score(true, predicted, average=None, labels=np.arange(5))
    assert scores.iou[:5] == pytest.approx(expected.tolist())
    assert scores.iou[5] is None
    assert scores.miou == pytest.approx(expected.mean())
    assert scores.pixel_accuracy == pytest.approx((true == predicted).mean())
    assert scores.log_loss == 2.5
    assert scores.count == 4


def test_a_class_that_is_only_predicted_counts_by_the_pixels_that_others_lose() -> None:
    mask = torch.tensor([[0, 0, 0, 1]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 0, 2, 1]])
    scores = score_masks(confusion(predicted, mask, num_classes=3)[None], torch.zeros(1))
    assert scores.iou[:2] == pytest.approx((2 / 3, 1.0))
    assert scores.miou == pytest.approx((2 / 3 + 1) / 2)


def test_an_image_without_a_class_counts_for_nothing() -> None:
    predicted, mask = drawn(0, 6, 6, num_classes=3)
    blank = torch.full((4, 4), IGNORED, dtype=torch.uint8)
    counts = torch.stack(
        [
            confusion(predicted, mask, num_classes=3),
            confusion(torch.zeros(4, 4, dtype=torch.int64), blank, num_classes=3),
        ]
    )
    logits = torch.randn(3, 4, 4)
    losses = torch.stack([torch.tensor(0.7, dtype=torch.float64), pixel_loss(logits, blank)])
    assert losses[1] == 0
    assert score_masks(counts, losses) == score_masks(counts[:1], losses[:1])


def test_the_loss_of_an_image_is_the_mean_over_its_pixels_with_a_class() -> None:
    _, mask = drawn(3, 5, 4, num_classes=3)
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    kept = mask != IGNORED
    probabilities = logits.softmax(dim=0)[:, kept].T
    expected = log_loss(mask[kept], probabilities, labels=np.arange(3))
    assert float(pixel_loss(logits, mask)) == pytest.approx(expected)
