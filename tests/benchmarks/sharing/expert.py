"""Ray Tune as an expert tunes it by hand, without a cache of features.

Processes are reused. Each process keeps the network and every image that it has decoded. Frozen
blocks run without autograd, but once per step.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from ray import tune
from ray.tune import CheckpointConfig, RunConfig, TuneConfig
from torch import Tensor
from torch.nn import functional
from torchvision import transforms

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
    halves,
    load_network,
    mean,
    to_training,
)


class Images:
    """The training images as tensors; a process decodes each image once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: dict[str, Tensor] = {}
        self._transform = transforms.Compose(
            [
                transforms.Resize(RESIZE_SIZE),
                transforms.CenterCrop(IMAGE_SIZE),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        self._classes = sorted(path.name for path in folder.iterdir())

    def batch(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) images and (N,) labels."""
        labels = [self._classes.index(name.partition("/")[0]) for name in names]
        return torch.stack([self._tensor(name) for name in names]), torch.tensor(labels)

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            with Image.open(self._folder / name) as picture:
                self._tensors[name] = self._transform(picture.convert("RGB"))
        return self._tensors[name]


class Fold:
    """A suffix that trains on one part and is evaluated on another."""

    def __init__(
        self,
        frozen: torch.nn.Module,
        learning: torch.nn.Module,
        trial: Trial,
        parts: Parts,
        images: Images,
        *,
        steps: int,
    ) -> None:
        self._frozen, self._learning = frozen, learning
        self._batch_size = parts.batch_size
        self._train = images.batch(parts.train)
        self._val = images.batch(parts.val)
        self._updates = Updates(learning, lr=trial.lr, steps=steps)
        self._step = 0

    def advance(self, step: int) -> None:
        """Train until `step` updates have been made."""
        to_training(self._learning)
        images, labels = self._train
        while self._step < step:
            rows = torch.randint(len(labels), (self._batch_size,))
            with torch.no_grad():
                activations = self._frozen(images[rows])
            self._updates.make(functional.cross_entropy(self._learning(activations), labels[rows]))
            self._step += 1

    @torch.no_grad()
    def num_right(self) -> tuple[int, int]:
        """Number of correctly classified validation images, and number of all of them."""
        self._learning.eval()
        images, labels = self._val
        right = 0
        for start in range(0, len(labels), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            predicted = self._learning(self._frozen(images[part])).argmax(dim=1)
            right += int((predicted == labels[part]).sum())
        return right, len(labels)


class ExpertTrainable(tune.Trainable):
    """Runs one trial after another in one process, with one report per step."""

    def setup(self, config: dict[str, Any], path: str | None = None) -> None:
        """Load what all trials need, and start the first trial."""
        assert path is not None  # Tune checks the signature before with_parameters binds it
        torch.set_num_threads(1)
        self._work = Work.load(Path(path))
        self._images = Images(self._work.images / "train")
        self._network = load_network(self._work.weights)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next report."""
        step = self._steps.pop(0)
        for fold in self._folds:
            fold.advance(step)
        counts = [fold.num_right() for fold in self._folds]
        right, count = (sum(numbers) for numbers in zip(*counts, strict=True))
        return {"accuracy": right / count, "done": not self._steps}

    def _begin(self, config: dict[str, Any]) -> None:
        trial = self._work.trials[config["number"]]
        self._steps = self._work.task.report_steps()
        self._folds = [
            Fold(
                *halves(self._network, trial.num_frozen),
                trial,
                parts,
                self._images,
                steps=self._work.task.steps,
            )
            for parts in self._work.folds[trial.budget]
        ]


def run_trials(path: Path) -> Measured:
    """Run the trials of a work file."""
    from orchestrator.running.cluster import LOCAL
    from orchestrator.running.ray_tune.cluster import (  # not imported in trial processes
        cluster,
    )

    work = Work.load(path)
    clock = Clock()
    # Tune's loggers would write files that are not needed, and a trial would take the process of
    # another trial while its own process is still starting.
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": str(SLOTS),
    }
    with tempfile.TemporaryDirectory() as folder, cluster(LOCAL, num_cpus=SLOTS):
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(ExpertTrainable, path=str(path)), {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(len(work.trials))))},
            tune_config=TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
            run_config=RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[clock],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    if results.errors:
        raise results.errors[0]
    return Measured(
        seconds=clock.seconds, accuracy=mean(result.metrics["accuracy"] for result in results)
    )
