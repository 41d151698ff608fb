"""Plain Ray Tune, written as PyTorch's tutorials show it.

Tune gets a function. Images come from `ImageFolder` through a `DataLoader`, layers are frozen by
`requires_grad`, and Optuna enqueues the configurations.
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune import RunConfig, TuneConfig
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet

from tests.benchmarks.sharing.clock import Clock, Measured
from tests.benchmarks.sharing.work import (
    EVALUATION_BATCH,
    IMAGE_SIZE,
    MEAN,
    RESIZE_SIZE,
    SLOTS,
    STD,
    Parts,
    Trial,
    Updates,
    Work,
    blocks,
    load_network,
    mean,
    to_training,
)

Batch = tuple[Tensor, Tensor]


class Fold:
    """A network that trains on one part and is evaluated on another."""

    def __init__(
        self,
        model: ResNet,
        trial: Trial,
        *,
        train: Dataset[Batch],
        val: Dataset[Batch],
        batch_size: int,
        steps: int,
    ) -> None:
        self._model = model
        for block in blocks(model)[: trial.num_frozen]:
            block.requires_grad_(requires_grad=False)
        sampler = RandomSampler(train, replacement=True, num_samples=batch_size * steps)  # type: ignore[arg-type]
        self._batches: Iterator[Batch] = iter(DataLoader(train, batch_size, sampler=sampler))
        self._val = DataLoader(val, EVALUATION_BATCH)
        self._updates = Updates(model, lr=trial.lr, steps=steps)
        self._step = 0

    def advance(self, step: int) -> None:
        """Train until `step` updates have been made."""
        to_training(self._model)
        while self._step < step:
            images, labels = next(self._batches)
            self._updates.make(functional.cross_entropy(self._model(images), labels))
            self._step += 1

    @torch.no_grad()
    def num_right(self) -> tuple[int, int]:
        """Number of correctly classified validation images, and number of all of them."""
        self._model.eval()
        right = count = 0
        for images, labels in self._val:
            right += int((self._model(images).argmax(dim=1) == labels).sum())
            count += len(labels)
        return right, count


def train(config: dict[str, Any], *, path: str, on_test: bool) -> None:
    """Run one trial."""
    torch.set_num_threads(1)
    work = Work.load(Path(path))
    trial = next(
        trial
        for trial in work.trials
        if (trial.budget, trial.depth, trial.lr)
        == (config["budget"], config["depth"], config["lr"])
    )
    transform = transforms.Compose(
        [
            transforms.Resize(RESIZE_SIZE),
            transforms.CenterCrop(IMAGE_SIZE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = ImageFolder(str(work.images / "train"), transform)
    test = ImageFolder(str(work.images / "test"), transform) if on_test else None
    model = load_network(work.weights)
    folds = [
        _fold(copy.deepcopy(model), trial, parts, images, test, steps=work.task.steps)
        for parts in work.folds[trial.budget]
    ]
    steps = work.task.report_steps()
    if on_test:
        steps = _ends_of_epochs(work.folds[trial.budget][0], steps=work.task.steps)
    for step in steps:
        for fold in folds:
            fold.advance(step)
        counts = [fold.num_right() for fold in folds]
        right, count = (sum(numbers) for numbers in zip(*counts, strict=True))
        tune.report({"accuracy": right / count})


def _ends_of_epochs(parts: Parts, *, steps: int) -> list[int]:
    """Numbers of updates after which an epoch, one pass over the training images, ends."""
    epoch = math.ceil(len(parts.train) / parts.batch_size)
    return [*range(epoch, steps, epoch), steps]


def _fold(
    model: ResNet,
    trial: Trial,
    parts: Parts,
    images: ImageFolder,
    test: ImageFolder | None,
    *,
    steps: int,
) -> Fold:
    row = {os.path.relpath(path, images.root): row for row, (path, _) in enumerate(images.samples)}
    return Fold(
        model,
        trial,
        train=Subset(images, [row[name] for name in parts.train]),
        val=test or Subset(images, [row[name] for name in parts.val]),
        batch_size=parts.batch_size,
        steps=steps,
    )


def fit(path: Path, clock: Clock, *, on_test: bool = False) -> Any:
    """Run all trials of a work file in a running cluster; return Tune's results.

    Args:
        path: path of the work file.
        clock: measures the time of the trials.
        on_test: whether trials score all test images after every epoch, instead of the validation
            images at every report.
    """
    work = Work.load(path)
    points = [
        {"budget": trial.budget, "depth": trial.depth, "lr": trial.lr} for trial in work.trials
    ]
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(train, path=str(path), on_test=on_test), {"cpu": 1}
            ),
            param_space={
                name: tune.choice(sorted({point[name] for point in points}))
                for name in ("budget", "depth", "lr")
            },
            tune_config=TuneConfig(
                metric="accuracy",
                mode="max",
                search_alg=OptunaSearch(points_to_evaluate=points),
                num_samples=len(points),
                max_concurrent_trials=SLOTS,
            ),
            run_config=RunConfig(storage_path=folder, verbose=0, callbacks=[clock]),
        ).fit()
    if results.errors:
        raise results.errors[0]
    if sorted(str(result.config) for result in results) != sorted(map(str, points)):
        raise RuntimeError("the trials that Optuna proposed are not those asked for")
    return results


def run_trials(path: Path) -> Measured:
    """Run the trials of a work file."""
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.cluster import (  # processes of trials do without it
        cluster,
    )

    clock = Clock()
    with cluster(LOCAL, num_cpus=SLOTS):
        results = fit(path, clock)
    return Measured(
        seconds=clock.seconds, accuracy=mean(result.metrics["accuracy"] for result in results)
    )


def run_protocol(path: Path) -> Measured:
    """Run the trials and score all test images after every epoch, timed from the start of Ray.

    The accuracy is the mean over budgets of the best trial's test accuracy. The test images
    themselves select that trial, because this contestant has no other images to select by.
    """
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.cluster import cluster

    start = time.perf_counter()
    with cluster(LOCAL, num_cpus=SLOTS):
        results = fit(path, Clock(), on_test=True)
    seconds = time.perf_counter() - start
    best: dict[int, float] = {}
    for result in results:
        budget = result.config["budget"]
        best[budget] = max(best.get(budget, 0.0), result.metrics["accuracy"])
    return Measured(seconds=seconds, accuracy=mean(best.values()))
