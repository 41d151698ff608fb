"""A folder with the files that contestants read: images, weights and work files."""

from __future__ import annotations

import io
from pathlib import Path

import torch
import yaml
from PIL import Image
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize, to_tensor

from orchestrator.datasets import digits
from orchestrator.datasets.sections import FolderSection
from orchestrator.running.broker.samplers import shuffled_grid
from orchestrator.space import parse_space
from tests.benchmarks.sharing.work import (
    IMAGE_SIZE,
    MEAN,
    SEED,
    SLOTS,
    STD,
    WARMUP,
    WEIGHT_DECAY,
    Parts,
    Task,
    Trial,
    Work,
    blocks,
    load_network,
)
from tests.builders.prepared import load_images
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.data.labelled_examples import Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation
from trainable.training.recipe import resolve_batch_size

STATISTICS_EVERY = 8
"""Step between the training images that BatchNorm's statistics are computed from."""


class Workplace:
    """A folder with images, weights, and the work files of tasks on them.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights.pt"
        write_digits(folder / "images")
        write_weights(self.weights, images=folder / "images" / "train")
        self.images = load_images(FolderSection(path=str(folder / "images")), seed=SEED)
        self.traced = Backbone(load_weights(f"resnet18@{self.weights}")).traced(IMAGE_SIZE)

    def work(self, task: Task, *, name: str) -> Path:
        """Write the work file of a task and its search-space file; return the work file."""
        space = self.folder / f"{name}.yaml"
        text = space_text(task, images=self.folder / "images", weights=self.weights)
        space.write_text(text)
        cuts = {depth: num_frozen(self.traced, self.weights, depth=depth) for depth in task.depths}
        points = shuffled_grid(parse_space(text, where=str(space)))
        work = Work(
            task=task,
            images=self.folder / "images",
            weights=self.weights,
            space=space,
            trials=tuple(
                Trial(
                    budget=budget,
                    depth=float(point["freeze_depth"]),
                    lr=float(point["lr"]),
                    num_frozen=cuts[float(point["freeze_depth"])],
                )
                for budget in task.budgets
                for point in points
            ),
            folds={budget: self._folds(task, budget) for budget in task.budgets},
        )
        path = self.folder / f"{name}.json"
        work.save(path)
        return path

    def _folds(self, task: Task, budget: int) -> tuple[Parts, ...]:
        """The folds that sft-sweep makes of a label budget."""
        images = self.images
        subset = draw_subset(images, budget=LabelBudget(per_class=budget), repeat=0, seed=SEED)
        validation = Validation.parse(task.validation)
        rows, folds = validation_parts(images, subset, validation=validation)
        names = [images.paths[row].removeprefix("train/") for row in rows]
        return tuple(
            Parts(
                train=tuple(names[position] for position in fold.train),
                val=tuple(names[position] for position in fold.val),
                batch_size=resolve_batch_size("auto", len(fold.train)),
            )
            for fold in folds
        )


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as RGB JPEG files to train/CLASS and test/CLASS."""
    images = digits.load(test=None, seed=SEED)
    for row in range(len(images)):
        split = "test" if images.split[row] == Split.TEST else "train"
        path = folder / split / images.class_names[images.labels[row]] / f"{row:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(images.encoded(row))) as small:
            large = small.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        large.save(path, "JPEG", quality=90)


@torch.no_grad()
def write_weights(path: Path, *, images: Path) -> None:
    """Write fixed random weights, with BatchNorm statistics computed from some of the images.

    Without these statistics, a network in eval mode gives nearly the same output for all images.
    """
    torch.manual_seed(SEED)
    model = resnet18(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # averages over all batches
    model.train()
    pictures = []
    for file in sorted(images.glob("*/*.jpg"))[::STATISTICS_EVERY]:
        with Image.open(file) as picture:
            pictures.append(to_tensor(picture))
    model(normalize(torch.stack(pictures), list(MEAN), list(STD)))
    torch.save(model.state_dict(), path)


def space_text(task: Task, *, images: Path, weights: Path) -> str:
    """The search-space file of a task: a grid, without pruning and baselines."""
    values = {
        "name": "sharing",
        "dataset": {"source": "folder", "path": str(images)},
        "search": {
            "backbone": f"resnet18@{weights}",
            "freeze_depth": list(task.depths),
            "lr": list(task.lrs),
            "label_budget": list(task.budgets),
        },
        "training": {
            "steps": task.steps,
            "reports": task.reports,
            "image_size": IMAGE_SIZE,
            "weight_decay": WEIGHT_DECAY,
            "warmup": WARMUP,
            "head_init": "zero",
            "batchnorm": "eval",
        },
        "validation": task.validation,
        "trials": task.trials_per_budget,
        "sampler": {"name": "grid"},
        "pruner": {"name": "none"},
        "finalists": {"count": task.finalists, "repeats": task.repeats},
        "baselines": [],
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": SLOTS},
        "seed": SEED,
    }
    return yaml.safe_dump(values, sort_keys=False)


def num_frozen(traced: TracedBackbone, weights: Path, *, depth: float) -> int:
    """Number of blocks before sft-sweep's cut, which have as many parameters as its prefix."""
    cuts = boundaries(traced)
    frozen = frozen_boundaries(len(cuts), depth=depth)
    if not frozen:
        return 0
    return max(
        number
        for number, chain in enumerate(_growing(blocks(load_network(weights))))
        if sum(p.numel() for p in chain.parameters()) == cuts[frozen - 1].params
    )


def _growing(chain: list[nn.Module]) -> list[nn.Sequential]:
    return [nn.Sequential(*chain[:number]) for number in range(len(chain) + 1)]
