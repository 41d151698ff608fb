"""Targets and scores of segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED, SHOWN_SIDE, Masks
from trainable.spec.metrics import Metric
from trainable.tasks.segmentation.places import choose_places
from trainable.tasks.segmentation.results import MaskResult
from trainable.tasks.segmentation.scores import MaskScores, confusion, pixel_loss, score_masks
from trainable.tasks.task import Outcomes, Places, Task


@dataclass(frozen=True, eq=False)
class MaskTargets:
    """Masks of N images; see `Targets`.

    Networks are trained on masks of the size of their input, and scored on masks as they are: their
    outputs are enlarged to the size of each mask.

    Outcomes are (N, C, C) int64 counts of pixels by true and predicted class, (N,) float64 losses,
    and (N, SHOWN_SIDE, SHOWN_SIDE) uint8 predicted classes to be looked at; see `confusion` and
    `pixel_loss`.

    Attributes:
        resized: (N, S, S) uint8 class ids at the size of the network's input, or `IGNORED`.
        masks: the masks as they are; None where nothing is scored.
    """

    resized: Tensor
    masks: Masks | None

    def __len__(self) -> int:
        return len(self.resized)

    @property
    def device(self) -> torch.device:
        """The device of the resized masks."""
        return self.resized.device

    def at(self, positions: Tensor) -> MaskTargets:
        """Return the masks at some positions."""
        own = None if self.masks is None else self.masks.at(positions.cpu().numpy())
        return MaskTargets(self.resized[positions], own)

    def losses(self, outputs: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the mean cross-entropy of the pixels of each image, 0 if it has none.

        Args:
            outputs: (N, C, S, S) logits.
            label_smoothing: 0..1.
        """
        losses = functional.cross_entropy(
            outputs.float(),
            self.resized.long(),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="none",
        )
        counted = (self.resized != IGNORED).flatten(1).sum(dim=1).clamp(min=1)
        return losses.flatten(1).sum(dim=1) / counted

    def outcomes(self, outputs: Tensor) -> Outcomes:
        """Return the counts, losses and small masks of (N, C, S, S) logits."""
        assert self.masks is not None
        num_classes = outputs.shape[1]
        counts, losses = [], []
        small = functional.interpolate(outputs.float(), size=SHOWN_SIDE, mode="bilinear")
        for row, logits in enumerate(outputs.float()):
            mask = torch.from_numpy(self.masks.mask(row)).to(outputs.device)
            enlarged = functional.interpolate(logits[None], size=mask.shape, mode="bilinear")[0]
            # What is not finite shows in the loss.
            counts.append(confusion(enlarged.argmax(dim=0), mask, num_classes=num_classes))
            losses.append(pixel_loss(enlarged, mask))
        shown = small.argmax(dim=1).to(torch.uint8)
        return torch.stack(counts).cpu(), torch.stack(losses).cpu(), shown.cpu()


class _Segmentation:
    """See `Task`."""

    name = "segmentation"
    is_dense = True

    def targets(
        self,
        examples: LabelledExamples,
        indices: npt.NDArray[np.int64],
        *,
        size: int,
        device: torch.device,
    ) -> MaskTargets:
        """Return the masks of some images."""
        assert examples.masks is not None
        masks = examples.masks.at(indices)
        return MaskTargets(torch.from_numpy(masks.resized(size)).to(device), masks)

    def placeholders(
        self, count: int, *, num_classes: int, size: int, device: torch.device
    ) -> MaskTargets:
        """Return masks of one class each: the first, the second and so on."""
        classes = (torch.arange(count, device=device) % num_classes).to(torch.uint8)
        return MaskTargets(classes[:, None, None].expand(-1, size, size), None)

    def places(
        self, examples: LabelledExamples, indices: npt.NDArray[np.int64], *, drawn: int, seed: int
    ) -> Places:
        """See `choose_places`."""
        return choose_places(examples, indices, drawn=drawn, seed=seed)

    def scores(self, outcomes: Outcomes) -> MaskScores:
        """Score counts and losses."""
        counts, losses, _ = outcomes
        return score_masks(counts, losses)

    def best_share(self, outcomes: Mapping[float, Outcomes], metric: Metric) -> float:
        """Return the position with the best objective, and the lowest on ties.

        Pixels are many, so that scores of masks tell positions apart.
        """
        sign = 1 if metric.maximize else -1
        return max(
            sorted(outcomes),
            key=lambda share: sign * self.scores(outcomes[share]).objective(metric),
        )

    def result(self, outcomes: Outcomes, *, all_probabilities: bool = False) -> MaskResult:
        """Return the counts and losses, and the worst masks."""
        del all_probabilities
        return MaskResult.of(*outcomes)


SEGMENTATION: Task = _Segmentation()
