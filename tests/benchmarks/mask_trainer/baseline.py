"""Plain Ray Tune over a training loop after torchvision's `references/segmentation`.

Tune gets a function. Images and masks come from files through a `DataLoader`, and layers are frozen
by `requires_grad`; the loop takes AdamW and a cosine, as ours does.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from ray import tune
from ray.tune import RunConfig, TuneConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.models import get_model_builder
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from tests.benchmarks.mask_trainer.work import CLASSES, SEED, SLOTS, Part, Work, mask_of
from tests.benchmarks.sharing.clock import Clock, Measured
from tests.benchmarks.sharing.work import MEAN, STD, Updates, mean, to_training

EVALUATION_BATCH = 32
IGNORED = 255

Example = tuple[Tensor, Tensor]


class MaskFiles(Dataset[Example]):
    """Images and masks of a folder, read anew each time.

    Args:
        folder: the folder.
        paths: paths of the images in it.
        size: side that images are resized to.
        resize_masks: whether masks are resized, too, as for training.
    """

    def __init__(
        self, folder: Path, paths: Sequence[str], *, size: int, resize_masks: bool
    ) -> None:
        self._folder = folder
        self._paths = paths
        self._size = [size, size]
        self._resize_masks = resize_masks

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Example:
        with Image.open(self._folder / self._paths[row]) as opened:
            image = transforms.resize(opened.convert("RGB"), self._size, antialias=True)
        with Image.open(self._folder / mask_of(self._paths[row])) as mask:
            target = transforms.pil_to_tensor(mask).long()
        if self._resize_masks:
            target = transforms.resize(target, self._size, InterpolationMode.NEAREST)
        tensor = transforms.normalize(transforms.to_tensor(image), list(MEAN), list(STD))
        return tensor, target[0]


class Training:
    """A network that trains on one part and is scored on other images.

    Args:
        work: the work.
        part: the images.
        depth: freeze depth.
        lr: peak learning rate.
    """

    def __init__(self, work: Work, part: Part, *, depth: float, lr: float) -> None:
        task = work.task
        train, scored = (
            MaskFiles(work.images, paths, size=task.image_size, resize_masks=resize)
            for paths, resize in ((part.train, True), (part.scored, False))
        )
        self._model = network(work)
        parameters = dict(self._model.named_parameters())
        for name in work.frozen[depth]:
            parameters[name].requires_grad = False
        sampler = RandomSampler(train, replacement=True, num_samples=part.batch_size * task.steps)
        self._batches: Iterator[Any] = iter(DataLoader(train, part.batch_size, sampler=sampler))
        self._scored = DataLoader(scored, EVALUATION_BATCH)
        self._updates = Updates(self._model, lr=lr, steps=task.steps)
        self._step = 0

    def advance(self, step: int) -> None:
        """Train until `step` updates have been made."""
        to_training(self._model)
        while self._step < step:
            images, masks = next(self._batches)
            outputs = self._model(images)["out"]
            self._updates.make(functional.cross_entropy(outputs, masks, ignore_index=IGNORED))
            self._step += 1

    @torch.inference_mode()
    def confusion(self) -> Tensor:
        """(C, C) pixels of the scored images at their own size, by true and predicted class."""
        self._model.eval()
        count = len(CLASSES)
        found = torch.zeros(count, count, dtype=torch.int64)
        for images, masks in self._scored:
            logits = functional.interpolate(
                self._model(images)["out"], size=masks.shape[-2:], mode="bilinear"
            )
            cells = count * masks + logits.argmax(dim=1)
            known = cells[masks != IGNORED]
            found += torch.bincount(known, minlength=count**2).view(count, count)
        return found


def network(work: Work) -> nn.Module:
    """The network with random weights and a head of zeros, as ours has it."""
    name = work.task.backbone
    # Not every network can have an auxiliary head, and `aux_loss` is an argument of these alone.
    bare = {} if name.startswith("lraspp") else {"aux_loss": False}
    torch.manual_seed(SEED)
    model: nn.Module = get_model_builder(name)(
        weights=None, weights_backbone=None, num_classes=len(CLASSES), **bare
    )
    for head in work.heads:
        for parameter in model.get_submodule(head).parameters():
            nn.init.zeros_(parameter)
    return model


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes of the intersection over union."""
    right = confusion.diagonal()
    either = confusion.sum(dim=0) + confusion.sum(dim=1) - right
    return float((right / either).mean())


def train(config: dict[str, Any], *, path: str) -> None:
    """Run one trial: its folds side by side, scored on what each holds out."""
    torch.set_num_threads(1)
    work = Work.load(Path(path))
    folds = [Training(work, p, depth=config["depth"], lr=config["lr"]) for p in work.folds]
    for step in work.task.report_steps():
        for fold in folds:
            fold.advance(step)
        confusion = torch.stack([fold.confusion() for fold in folds]).sum(dim=0)
        tune.report({"miou": mean_iou(confusion)})


def finish(config: dict[str, Any], *, path: str) -> None:
    """Run one final: train on the whole budget, and score the test images."""
    torch.set_num_threads(1)
    work = Work.load(Path(path))
    assert work.chosen is not None
    depth, lr = work.chosen
    training = Training(work, work.finals[config["repeat"]], depth=depth, lr=lr)
    training.advance(work.task.steps)
    tune.report({"miou": mean_iou(training.confusion())})


def run_trials(path: Path) -> tuple[Measured, dict[float, float]]:
    """Trials and finals of a work file; what was measured, and the seconds of trials by depth."""
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.cluster import (  # processes of trials do without it
        cluster,
    )

    task, clock = Work.load(path).task, Clock()
    with cluster(LOCAL, num_cpus=SLOTS):
        results = _fit(train, path, clock, depth=task.depths, lr=task.lrs)
        _fit(finish, path, clock, repeat=range(len(Work.load(path).finals)))
    by_depth: dict[float, float] = defaultdict(float)
    for result in results:
        by_depth[result.config["depth"]] += result.metrics["time_total_s"]
    measured = Measured(
        seconds=clock.seconds, accuracy=mean(result.metrics["miou"] for result in results)
    )
    return measured, dict(by_depth)


def _fit(function: Any, path: Path, clock: Clock, **grid: Sequence[Any]) -> Any:
    """Run a function for all combinations of some values."""
    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(function, path=str(path)), {"cpu": 1}),
            param_space={name: tune.grid_search(list(values)) for name, values in grid.items()},
            tune_config=TuneConfig(metric="miou", mode="max", max_concurrent_trials=SLOTS),
            run_config=RunConfig(storage_path=folder, verbose=0, callbacks=[clock]),
        ).fit()
    if results.errors:
        raise results.errors[0]
    return results
