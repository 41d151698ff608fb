"""The work that both contestants do: images with masks, a network, trials, and their finals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

if TYPE_CHECKING:  # processes of trials import this module and do without
    from trainable.backbones.graphs.graph import TracedBackbone

SLOTS = 2
"""Trials at a time; each has one thread."""

FOLDS = 3
REPEATS = 2
"""Finals of the configuration that is chosen, each on a draw of its own."""

SEED = 0
SIDE = 128
"""Side of images and masks, in pixels."""

CLASSES = ("background", "disc", "square", "bar")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked of a contestant.

    Attributes:
        backbone: name of the network, among torchvision's of segmentation.
        depths: freeze depths.
        lrs: learning rates; the trials are all pairs of a depth and one of these.
        labels: labelled images in all.
        image_size: side of the network's input, in pixels.
        steps: updates of a fold, and of a final.
        reports: evaluations of a trial on what is held out, beside the one before any update.
    """

    backbone: str
    depths: tuple[float, ...]
    lrs: tuple[float, ...]
    labels: int
    image_size: int
    steps: int
    reports: int

    @property
    def num_trials(self) -> int:
        """All pairs of a depth and a learning rate."""
        return len(self.depths) * len(self.lrs)

    def report_steps(self) -> list[int]:
        """Numbers of updates after which a trial is evaluated, 0 included."""
        return [round(self.steps * number / self.reports) for number in range(self.reports + 1)]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one training learns from and is scored on.

    Attributes:
        train: images to train on, by their paths.
        scored: images to score.
        batch_size: images of an update.
    """

    train: tuple[str, ...]
    scored: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task with everything that depends on the images and the network.

    Attributes:
        task: what is asked.
        images: folder that holds the images and masks.
        space: search-space file of the same trials.
        heads: names of the network's layers that are new.
        frozen: names of the network's parameters that stay as they are, by depth.
        folds: the folds of a trial.
        finals: the finals.
        chosen: depth and learning rate of the finals, which ours chooses; None before its first
            run.
    """

    task: Task
    images: Path
    space: Path
    heads: tuple[str, ...]
    frozen: dict[float, tuple[str, ...]]
    folds: tuple[Part, ...]
    finals: tuple[Part, ...]
    chosen: tuple[float, float] | None = None

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        path.write_text(json.dumps(dataclasses.asdict(self), default=str))

    @classmethod
    def load(cls, path: Path) -> Work:
        """The work written by `save`."""
        data: dict[str, Any] = json.loads(path.read_text())
        return cls(
            task=Task(**_tuples(data["task"])),
            images=Path(data["images"]),
            space=Path(data["space"]),
            heads=tuple(data["heads"]),
            frozen={float(depth): tuple(names) for depth, names in data["frozen"].items()},
            folds=tuple(Part(**_tuples(part)) for part in data["folds"]),
            finals=tuple(Part(**_tuples(part)) for part in data["finals"]),
            chosen=None if data["chosen"] is None else tuple(data["chosen"]),
        )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}


def mask_of(image: str) -> str:
    """Path of the mask of an image."""
    path = Path(image)
    return str(path.parents[1] / "masks" / f"{path.stem}.png")


def write_images(folder: Path, *, pool: int, test: int) -> None:
    """Write JPEG images of shapes in noise, and their masks, to train/ and test/ of a folder."""
    for split, number in (("train", pool), ("test", test)):
        for name in ("images", "masks"):
            (folder / split / name).mkdir(parents=True)
        for place in range(number):
            pixels, mask = _drawn(np.random.default_rng([SEED, split == "test", place]))
            path = folder / split / "images" / f"{place:03d}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            Image.fromarray(mask).save(mask_of(str(path)))


def _drawn(
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Pixels and classes of one image: a shape of each class, where others do not hide it."""
    lines, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for number in rng.permutation(len(CLASSES) - 1) + 1:
        y, x = rng.integers(24, SIDE - 24, 2)
        down, right = np.abs(lines - y), np.abs(columns - x)
        radius = rng.uniform(12, 24)
        inside = {
            "disc": down**2 + right**2 < radius**2,
            "square": np.maximum(down, right) < radius * 0.8,
            "bar": (down < radius / 3) & (right < 2 * radius),
        }
        mask[inside[CLASSES[number]]] = number
    colours = rng.uniform(60, 200, (len(CLASSES), 3))
    noise = rng.normal(0, 30, (SIDE, SIDE, 3))
    return (colours[mask] + noise).clip(0, 255).astype(np.uint8), mask


def write_work(task: Task, images: Path, folder: Path) -> Path:
    """The file of a task's work, beside its search-space file.

    Args:
        task: what is asked.
        images: folder of images and masks, as `write_images` leaves it.
        folder: where both are written.
    """
    from orchestrator.datasets.mask_sections import MasksSection
    from tests.builders.prepared import load_images
    from trainable.backbones import Backbone, load_weights
    from trainable.data.labelled_examples import Split
    from trainable.data.subsets import draw_subset, validation_parts
    from trainable.spec.trial_spec import LabelBudget
    from trainable.spec.validation import Validation
    from trainable.training.recipe import resolve_batch_size

    examples = load_images(MasksSection(path=str(images)), seed=SEED)
    draws = [
        draw_subset(examples, budget=LabelBudget(per_class=task.labels), repeat=repeat, seed=SEED)
        for repeat in range(REPEATS)
    ]
    rows, folds = validation_parts(examples, draws[0], validation=Validation(FOLDS))
    # All folds of a trial have the batch size of the one with the fewest images.
    fewest = min(len(fold.train) for fold in folds)

    def part(train: Any, scored: Any, *, num_train: int) -> Part:
        return Part(
            train=tuple(examples.paths[row] for row in train),
            scored=tuple(examples.paths[row] for row in scored),
            batch_size=resolve_batch_size("auto", num_train),
        )

    weights = load_weights(f"{task.backbone}@none", task="segmentation")
    traced = Backbone(weights).traced(task.image_size)
    space = folder / f"{task.backbone}.yaml"
    space.write_text(space_text(task, images))
    work = Work(
        task=task,
        images=images,
        space=space,
        heads=traced.head_names,
        frozen=frozen_parameters(task, traced),
        folds=tuple(part(rows[f.train], rows[f.val], num_train=fewest) for f in folds),
        finals=tuple(
            part(draw, examples.indices(Split.TEST), num_train=len(draw)) for draw in draws
        ),
    )
    path = folder / f"{task.backbone}.json"
    work.save(path)
    return path


def space_text(task: Task, images: Path) -> str:
    """The search-space file of a task: a grid, without pruning and baselines."""
    values = {
        "name": "masks",
        "dataset": {"source": "masks", "path": str(images)},
        "search": {
            "backbone": f"{task.backbone}@none",
            "freeze_depth": list(task.depths),
            "lr": list(task.lrs),
            "label_budget": [task.labels],
        },
        "training": {
            "steps": task.steps,
            "reports": task.reports,
            "image_size": task.image_size,
            "head_init": "zero",
            "interpolation": 1,
            "batchnorm": "eval",
        },
        "validation": {"folds": FOLDS},
        "trials": task.num_trials,
        "sampler": {"name": "grid"},
        "pruner": {"name": "none"},
        "finalists": {"count": 1, "repeats": REPEATS},
        "baselines": [],
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": SLOTS},
        "seed": SEED,
    }
    return yaml.safe_dump(values, sort_keys=False)


def frozen_parameters(task: Task, traced: TracedBackbone) -> dict[float, tuple[str, ...]]:
    """Names of the parameters before ours' cut at each depth."""
    from trainable.backbones.cutting.boundaries import (
        boundaries,
        frozen_boundaries,
        parameter_depths,
    )

    count = len(boundaries(traced))
    remaining = parameter_depths(traced)

    def names(depth: float) -> Sequence[str]:
        frozen = frozen_boundaries(count, depth=depth)
        return [name for name, left in remaining.items() if left > count - frozen]

    return {depth: tuple(names(depth)) for depth in task.depths}
