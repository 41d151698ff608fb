"""What somebody writes who fine-tunes without this package: a plain loop over all layers.

Crops and flips are drawn afresh for every update, all parameters learn, the learning rate rises for
a tenth of the updates and falls to zero along a cosine. What an expert would choose by trying is in
`Choice`; `choose` tries one setting after the other.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2

from trainable.backbones import Backbone
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.graph import independent_copy
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.reader import FeatureReader
from trainable.modalities.image.preprocessing import normalize
from trainable.training.logistic import LinearClassifier, fit_path

UPDATES = 120
BATCH = 32
WARMUP = 0.1
CROPS = (0.5, 1.0)
_EVALUATED = 64


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the expert settles.

    Attributes:
        optimizer: `adamw` with weight decay 0.01, or `sgd` with momentum 0.9 and no decay.
        lr: its peak learning rate.
        batchnorm: `train` for the statistics of batches, `eval` for those of pretraining.
        start: of the head, `random` or `probe`: a logistic regression with C = 1.
    """

    optimizer: str
    lr: float
    batchnorm: str
    start: str

    def to_json(self) -> dict[str, Any]:
        """As keyword arguments."""
        return asdict(self)


FIRST = Choice(optimizer="adamw", lr=3e-4, batchnorm="eval", start="probe")
RATES = (("adamw", 1e-4), ("adamw", 3e-4), ("adamw", 1e-3), ("sgd", 1e-3), ("sgd", 1e-2))


def choose(score: Callable[[Choice], float]) -> Choice:
    """What scores highest, settled one after the other: optimizer and rate, BatchNorm, start.

    Args:
        score: what a choice comes to, the higher the better.
    """
    rated = [replace(FIRST, optimizer=optimizer, lr=lr) for optimizer, lr in RATES]
    best = max(rated, key=score)
    best = max(best, replace(best, batchnorm="train"), key=score)
    return max(best, replace(best, start="random"), key=score)


class PlainLoop:
    """Fine-tunes all of a backbone on some images.

    Args:
        images: encoded.
        backbone: with its weights; a copy is trained.
        image_size: side of the backbone's input, in pixels.
        train: (N,) indices to learn from.
        seed: of the head, the crops and the order.
    """

    def __init__(
        self,
        images: LabelledExamples,
        backbone: Backbone,
        *,
        image_size: int,
        train: npt.NDArray[np.int64],
        seed: int,
    ) -> None:
        self._images = images
        self._backbone = backbone
        self._preprocessing = backbone.weights.image_preprocessing.resized(image_size)
        self._reader = FeatureReader(
            images, backbone, image_size=image_size, device=torch.device("cpu"), precision="fp32"
        )
        self._labels = torch.from_numpy(images.labels[train])
        self._train = train
        self._seed = seed
        self._augment = v2.Compose(
            [v2.RandomResizedCrop(image_size, scale=CROPS), v2.RandomHorizontalFlip()]
        )
        opened = (Image.open(io.BytesIO(images.encoded(int(row)))) for row in train)
        self._decoded = [v2.functional.pil_to_tensor(image.convert("RGB")) for image in opened]

    def correct(self, choice: Choice, test: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Train by a choice and classify; (M,) whether each of the test images came out right."""
        torch.manual_seed(self._seed)
        network = self._network(choice)
        self._fit(network, choice)
        network.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, len(test), _EVALUATED):
                pixels = self._reader.read(test[start : start + _EVALUATED], frozen=0)
                found.append(network(pixels).argmax(dim=1).numpy())
        hits: npt.NDArray[np.bool_] = np.concatenate(found) == self._images.labels[test]
        return hits

    def _network(self, choice: Choice) -> nn.Module:
        traced = self._backbone.traced(self._preprocessing.image_size)
        whole = split(traced, frozen=0, num_classes=self._images.num_classes)
        network = independent_copy(whole.suffix)
        head = network.get_submodule(whole.head)
        assert isinstance(head, nn.Linear)
        if choice.start == "random":
            head.reset_parameters()
        else:
            self._probe().copy_into(head)
        return network

    def _probe(self) -> LinearClassifier:
        (probe,) = fit_path(
            self._reader.head_inputs(self._train),
            self._labels,
            num_classes=self._images.num_classes,
            inverse_penalties=[1.0],
        )
        return probe

    def _fit(self, network: nn.Module, choice: Choice) -> None:
        optimizer: torch.optim.Optimizer
        if choice.optimizer == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), lr=choice.lr, momentum=0.9)
        else:
            optimizer = torch.optim.AdamW(network.parameters(), lr=choice.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, choice.lr, total_steps=UPDATES, pct_start=WARMUP, cycle_momentum=False
        )
        network.train()
        if choice.batchnorm == "eval":
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for _ in range(UPDATES):
            rows = torch.randint(len(self._train), (BATCH,))
            batch = torch.stack([self._augment(self._decoded[row]) for row in rows.tolist()])
            optimizer.zero_grad()
            logits = network(normalize(batch, self._preprocessing))
            loss = functional.cross_entropy(logits, self._labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
