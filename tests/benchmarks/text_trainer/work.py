"""The work that both contestants do: texts, a model, and trials with what each of them freezes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.datasets.sections import BankingSection
from tests.builders.prepared import load_images
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import (
    boundaries,
    frozen_boundaries,
    parameter_depths,
)
from trainable.data.subsets import draw_subset, validation_parts
from trainable.spec.trial_spec import LabelBudget
from trainable.spec.validation import Validation

SLOTS = 2
"""Trials at a time; each has one thread."""

HOLDOUT = 0.25
SEED = 0

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "equal": {"head_init": "zero", "interpolation": 1},
    "whole": {},
}
"""Training settings of ours: no more than a Trainer does, or the recipe as it is. That starts heads
from a probe, and evaluates five places on the way from the start of the weights to their end."""

Text = tuple[str, int]
"""A text and its class."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked of a contestant.

    Attributes:
        depths: freeze depths.
        lrs: learning rates; the trials are all pairs of a depth and one of these.
        labels: per class; a quarter of them is held out.
        steps: updates of a trial.
        reports: evaluations of a trial on what is held out, beside the one before any update.
        batch_size: texts of an update.
    """

    depths: tuple[float, ...]
    lrs: tuple[float, ...]
    labels: int
    steps: int
    reports: int
    batch_size: int

    @property
    def num_trials(self) -> int:
        """All pairs of a depth and a learning rate."""
        return len(self.depths) * len(self.lrs)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task with everything that depends on the texts and the model.

    Attributes:
        task: what is asked.
        model: folder, or name on the hub.
        spaces: the search-space file of the same trials by the name of a recipe of `RECIPES`.
        frozen: names of the model's parameters that stay as they are, by depth.
        train: texts to train on.
        val: texts held out.
        num_classes: of the texts.
    """

    task: Task
    model: str
    spaces: dict[str, str]
    frozen: dict[float, tuple[str, ...]]
    train: tuple[Text, ...]
    val: tuple[Text, ...]
    num_classes: int

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Work:
        """The work written by `save`."""
        data: dict[str, Any] = json.loads(path.read_text())
        task: dict[str, Any] = data["task"]
        lists = {name: tuple(task[name]) for name in ("depths", "lrs")}
        return cls(
            task=Task(**(task | lists)),
            model=data["model"],
            spaces=data["spaces"],
            frozen={float(depth): tuple(names) for depth, names in data["frozen"].items()},
            train=tuple((text, label) for text, label in data["train"]),
            val=tuple((text, label) for text, label in data["val"]),
            num_classes=data["num_classes"],
        )


def write_work(task: Task, model: str, folder: Path) -> Path:
    """The file of a task's work, beside its search-space file.

    Args:
        task: what is asked.
        model: folder, or name on the hub.
        folder: where both are written.
    """
    texts = load_images(BankingSection(), seed=SEED)
    subset = draw_subset(texts, budget=LabelBudget(per_class=task.labels), repeat=0, seed=SEED)
    rows, (fold,) = validation_parts(texts, subset, validation=Validation(None, HOLDOUT))

    def taken(positions: Any) -> tuple[Text, ...]:
        return tuple(
            (texts.encoded(int(i)).decode(), int(texts.labels[i])) for i in rows[positions]
        )

    spaces = {name: folder / f"{name}.yaml" for name in RECIPES}
    for name, space in spaces.items():
        space.write_text(space_text(task, model, RECIPES[name]))
    work = Work(
        task=task,
        model=model,
        spaces={name: str(space) for name, space in spaces.items()},
        frozen=frozen_parameters(model, task.depths),
        train=taken(fold.train),
        val=taken(fold.val),
        num_classes=texts.num_classes,
    )
    path = folder / "work.json"
    work.save(path)
    return path


def space_text(task: Task, model: str, recipe: Mapping[str, Any]) -> str:
    """The search-space file of a task: a grid, without pruning and baselines."""
    values = {
        "name": "trainer",
        "dataset": {"source": "banking"},
        "search": {
            "backbone": f"transformers:{model}",
            "freeze_depth": list(task.depths),
            "lr": list(task.lrs),
            "label_budget": [task.labels],
        },
        "training": {
            "steps": task.steps,
            "reports": task.reports,
            "batch_size": task.batch_size,
            **recipe,
        },
        "validation": {"holdout": HOLDOUT},
        "trials": task.num_trials,
        "sampler": {"name": "grid"},
        "pruner": {"name": "none"},
        "finalists": {"count": 1, "repeats": 2},
        "baselines": [],
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": SLOTS},
        "seed": SEED,
    }
    return yaml.safe_dump(values, sort_keys=False)


def frozen_parameters(model: str, depths: tuple[float, ...]) -> dict[float, tuple[str, ...]]:
    """Names of the parameters before ours' cut at each depth, as the model itself calls them."""
    weights = load_weights(f"transformers:{model}")
    traced = Backbone(weights).traced(weights.text_preprocessing.max_length)
    count = len(boundaries(traced))
    remaining = parameter_depths(traced)
    return {
        depth: tuple(
            name.removeprefix("model.")
            for name, left in remaining.items()
            if left > count - frozen_boundaries(count, depth=depth)
        )
        for depth in depths
    }
