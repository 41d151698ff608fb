"""The work that all contestants do: a network, its cuts, and trials with their folds and updates.

This module imports only what every contestant needs, because trial processes import it when they
start.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LambdaLR
from torchvision.models import ResNet, resnet18

from trainable.training.recipe import CLIP_NORM, learning_rate_factor, train_mode

SLOTS = 2
"""Number of trials that run at a time, each with one thread."""

IMAGE_SIZE = 64
RESIZE_SIZE = 73
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES = 10
WEIGHT_DECAY = 0.01
WARMUP = 0.1
EVALUATION_BATCH = 256
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One fold; images are named by their paths among the training images, such as `3/0014.jpg`.

    Attributes:
        train: images to train on.
        val: validation images.
        batch_size: images per update.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration.

    Attributes:
        budget: labels per class.
        depth: freeze depth, the fraction of the boundaries that lie in the prefix.
        lr: peak learning rate.
        num_frozen: number of `blocks` that are frozen.
    """

    budget: int
    depth: float
    lr: float
    num_frozen: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of all contestants.

    Attributes:
        depths: freeze depths.
        lrs: learning rates; the trials of a label budget are all pairs of depth and learning rate.
        budgets: labels per class, ascending.
        steps: updates per fold of a trial.
        reports: evaluations per trial.
        folds: number of folds of the cross-validation; None for a holdout of a quarter.
        finalists: configurations per budget that sft-sweep refits, if finals are part of the case.
        repeats: fresh draws for each finalist.
    """

    depths: tuple[float, ...]
    lrs: tuple[float, ...]
    budgets: tuple[int, ...]
    steps: int
    reports: int
    folds: int | None = 2
    finalists: int = 1
    repeats: int = 2

    @property
    def validation(self) -> dict[str, Any]:
        """The value of `validation` in a search-space file."""
        return {"holdout": 0.25} if self.folds is None else {"folds": self.folds}

    @property
    def trials_per_budget(self) -> int:
        """Number of pairs of a depth and a learning rate."""
        return len(self.depths) * len(self.lrs)

    def report_steps(self) -> list[int]:
        """Numbers of updates after which a trial is evaluated, the last one included."""
        return [round(self.steps * (number + 1) / self.reports) for number in range(self.reports)]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task with everything that depends on the images and the network.

    Attributes:
        task: the task.
        images: folder with the folders train/ and test/, which have one folder per class.
        weights: file of the network's state dict.
        space: search-space file of the same trials.
        trials: all trials, in the order in which sft-sweep runs them.
        folds: folds of each label budget.
    """

    task: Task
    images: Path
    weights: Path
    space: Path
    trials: tuple[Trial, ...]
    folds: dict[int, tuple[Parts, ...]]

    def save(self, path: Path) -> None:
        """Write the work to a file for `load`."""
        path.write_text(json.dumps(dataclasses.asdict(self), default=str))

    @classmethod
    def load(cls, path: Path) -> Work:
        """Return the work that `save` wrote."""
        data = json.loads(path.read_text())
        return cls(
            task=Task(**{key: _frozen(value) for key, value in data["task"].items()}),
            images=Path(data["images"]),
            weights=Path(data["weights"]),
            space=Path(data["space"]),
            trials=tuple(Trial(**trial) for trial in data["trials"]),
            folds={
                int(budget): tuple(
                    Parts(**{key: _frozen(value) for key, value in fold.items()}) for fold in folds
                )
                for budget, folds in data["folds"].items()
            },
        )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def load_network(weights: Path) -> ResNet:
    """The pretrained network with a new head of zeros, in eval mode."""
    model: ResNet = resnet18(weights=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.fc = nn.Linear(model.fc.in_features, NUM_CLASSES)
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    return model.eval()


def blocks(model: ResNet) -> list[nn.Module]:
    """The network as a chain of modules that ends with the head; cuts lie between two of them."""
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    stem: list[nn.Module] = [model.conv1, model.bn1, model.relu, model.maxpool]
    return [*stem, *(block for stage in stages for block in stage), *_behind(model), model.fc]


def _behind(model: ResNet) -> list[nn.Module]:
    return [model.avgpool, nn.Flatten(1)]


def halves(model: ResNet, num_frozen: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return copies of the frozen blocks and of the trained blocks."""
    chain = copy.deepcopy(nn.Sequential(*blocks(model)))
    return chain[:num_frozen].requires_grad_(requires_grad=False).eval(), chain[num_frozen:]


class Updates:
    """Updates by AdamW with warm-up, cosine schedule and gradient clipping."""

    def __init__(self, module: nn.Module, *, lr: float, steps: int) -> None:
        self._module = module
        self._learning = [p for p in module.parameters() if p.requires_grad]
        self._optimizer = optim.AdamW(self._learning, lr=lr, weight_decay=WEIGHT_DECAY)
        self._schedule = LambdaLR(
            self._optimizer, lambda step: learning_rate_factor(step, steps=steps, warmup=WARMUP)
        )

    def make(self, loss: Tensor) -> None:
        """Make one update."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learning, CLIP_NORM)
        self._optimizer.step()
        self._schedule.step()


def to_training(module: nn.Module) -> None:
    """Put a module into train mode, and its BatchNorm layers into eval mode."""
    train_mode(module, batchnorm="eval")


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    found = list(values)
    return sum(found) / len(found)
