"""Does fine-tuning by our recipe gain on the linear probe, and on what an expert would write?

    python -m benchmarks.recipes run --weights WEIGHTS --set NAME=FOLDER:SIZE ... [--networks lite0]
        [--budgets 20 5 50] [--draws 10] [--recipes probe current expert yesterday] [--out FILE]
    python -m benchmarks.recipes table [FILE]

Cells are networks x sets x label budgets. In each, as a user would have it:

- probe: logistic regression on the frozen features, its penalty chosen on each draw's folds.
- current: a random search of 12 over the default axes on the first draw of labels; what ranks first
  by validation is trained again on the whole of each draw. Beside it stands the best fine-tuned
  configuration where the probe itself ranks first.
- yesterday: the same by the recipe and the default axes of version 0.1.0: a head of zeros, images
  as they are, the end of training.
- expert: `benchmarks.expert`, whose choice is made once for each set, with `lite0` at 20 labels a
  class, by what it comes to on a development half of the pool that it does not learn from.

Everything is chosen on labels of the pool; the test images, the same for all, are read for the
table's figures alone. `run` writes a line for each result and goes on where it was stopped. It
needs `trainable` alone (and timm for the EfficientNets), no Ray. WEIGHTS is the folder that
`benchmarks.pretrained` writes, as a relative path, because the results name it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.pretrained import BACKBONES
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.features.cache import FeatureCache, open_cache
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.baselines import run_baseline
from trainable.training.learner import DivergedError
from trainable.training.probe import ProbeMemo
from trainable.training.trial import Trial

RESULTS = Path(__file__).with_name("recipes.jsonl")
"""What has been measured so far, of which docs/recipe.md has the table."""
TEST_SHARE = 0.35
TRIALS = 12
SEED = 0
CHOSEN_WITH, CHOSEN_AT = "lite0", 20
"""Network and labels a class at which the expert chooses."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VALIDATION = Validation(folds=3)


_Trial = TypeVar("_Trial", bound=Mapping[str, Any])


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a search draws from.

    Attributes:
        freeze_depth: choices.
        lr: lowest and highest, on a log scale.
        training: settings of every trial.
    """

    freeze_depth: Sequence[float]
    lr: tuple[float, float]
    training: Mapping[str, Any]

    def draw(self, seed: str) -> Iterator[dict[str, Any]]:
        """Random configurations without end."""
        source = random.Random(seed)  # noqa: S311
        low, high = (math.log(end) for end in self.lr)
        while True:
            depth, lr = source.choice(self.freeze_depth), math.exp(source.uniform(low, high))
            yield {"freeze_depth": depth, "lr": lr, **self.training}


CURRENT = Axes(
    freeze_depth=(0.25, 0.5, 0.75),
    lr=(2e-4, 2e-3),
    training={
        "steps": 120,
        "reports": 4,
        "batch_size": 32,
        "augment": {
            "ops": ["horizontal_flip", {"resized_crop": {"scale": [0.5, 1.0]}}],
            "views": "auto",
        },
    },
)
YESTERDAY = Axes(
    freeze_depth=(0.75, 1.0),
    lr=(3e-5, 1e-2),
    training={"steps": 100, "head_init": "zero", "interpolation": 1.0},
)
"""What version 0.1.0 did with the file that its `init` wrote on a machine without a GPU."""
AXES = {"current": CURRENT, "yesterday": YESTERDAY}


@dataclass(frozen=True)
class Cell:
    """One question.

    Attributes:
        network: a key of `benchmarks.pretrained.BACKBONES`.
        dataset: its name.
        image_size: in pixels.
        budget: labels of each class.
    """

    network: str
    dataset: str
    image_size: int
    budget: int


class Bench:
    """Results of cells, each computed once.

    Args:
        out: file of results, a JSON object a line; what it holds is not computed again.
        weights: folder of the networks' files.
        folders: by name of a set, where its class folders lie.
    """

    def __init__(self, out: Path, *, weights: Path, folders: Mapping[str, Path]) -> None:
        self._out = out
        self._weights = weights
        self._folders = folders
        self._known = {_key(each): each for each in read_results(out)}
        self._probes = ProbeMemo()

    @cached_property
    def _cache(self) -> FeatureCache | None:
        return open_cache(CacheMode.ALWAYS, num_images=10_000)

    @cache  # noqa: B019
    def images(self, dataset: str) -> LabelledExamples:
        """The images of a set, with their test split."""
        return read_folder(self._folders[dataset])

    @cache  # noqa: B019
    def backbone(self, network: str, image_size: int) -> Backbone:
        """A network for images of a size, read once.

        In `channels_last` a CPU trains it 1.5 times as fast, and only the rounding differs.
        """
        backbone = Backbone(load_weights(BACKBONES[network].format(weights=self._weights)))
        backbone.traced(image_size).module.to(memory_format=torch.channels_last)
        return backbone

    def probe(self, cell: Cell, draws: int) -> dict[str, Any]:
        """The linear probe on each draw."""

        def measure() -> dict[str, Any]:
            result = run_baseline(
                self.images(cell.dataset),
                backbone=self.backbone(cell.network, cell.image_size),
                budget=LabelBudget(per_class=cell.budget),
                validation=VALIDATION,
                repeats=draws,
                seed=SEED,
                size=cell.image_size,
                cache=self._cache,
            )
            hits = [self._hits(cell, test.arrays()["predicted"]) for test in result.tests]
            return {
                "val_accuracy": result.validation.accuracy,
                "val_loss": result.validation.log_loss,
                "correct": [pack(each) for each in hits],
            }

        return self._once({**cell.__dict__, "recipe": "probe", "draws": draws}, measure)

    def search(self, cell: Cell, recipe: str) -> dict[str, Any]:
        """The fine-tuned configuration that validates best, of `TRIALS` on the first draw."""
        drawn = AXES[recipe].draw(f"{SEED}/{recipe}/{cell}")
        trials = [self._trial(cell, recipe, number, next(drawn)) for number in range(TRIALS)]
        return best_of(trials)

    def refit(self, cell: Cell, recipe: str, best: Mapping[str, Any], draw: int) -> dict[str, Any]:
        """What a configuration comes to on the test images."""

        def measure() -> dict[str, Any]:
            validated = self._make(cell, TrialSpec.from_json(best["spec"])).facts().spec
            result = self._make(cell, replace(validated, repeat=draw)).refit()
            return {"correct": [pack(self._hits(cell, result.arrays()["predicted"]))]}

        about = {**cell.__dict__, "recipe": recipe, "refit": best["trial"], "draw": draw}
        return self._once(about, measure)

    def expert_choice(self, cell: Cell) -> dict[str, Any]:
        """What the expert settles on for a set, as keyword arguments of `Choice`."""
        from benchmarks.expert import Choice, choose

        at = replace(cell, network=CHOSEN_WITH, budget=CHOSEN_AT)

        def accuracy(choice: Choice) -> float:
            tried = self._expert(at, choice.to_json(), draw=0, developing=True)
            return float(np.mean(_unpacked(tried["correct"][0])))

        return choose(accuracy).to_json()

    def expert(self, cell: Cell, draw: int) -> dict[str, Any]:
        """The expert's loop on one draw."""
        return self._expert(cell, self.expert_choice(cell), draw=draw, developing=False)

    def _expert(
        self, cell: Cell, choice: dict[str, Any], *, draw: int, developing: bool
    ) -> dict[str, Any]:
        from benchmarks.expert import Choice, PlainLoop

        def measure() -> dict[str, Any]:
            images = self.images(cell.dataset)
            if developing:
                images = development_half(images)
            train = draw_subset(
                images, budget=LabelBudget(per_class=cell.budget), repeat=draw, seed=SEED
            )
            loop = PlainLoop(
                images,
                self.backbone(cell.network, cell.image_size),
                image_size=cell.image_size,
                train=train,
                seed=draw,
            )
            return {"correct": [pack(loop.correct(Choice(**choice), images.indices(Split.TEST)))]}

        about = {"recipe": "expert", "choice": choice, "draw": draw, "developing": developing}
        return self._once({**cell.__dict__, **about}, measure)

    def _trial(
        self, cell: Cell, recipe: str, number: int, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            spec = TrialSpec.from_json(
                {
                    "backbone": BACKBONES[cell.network].format(weights=self._weights),
                    "label_budget": cell.budget,
                    "validation": VALIDATION.to_json(),
                    "image_size": cell.image_size,
                    "seed": SEED,
                    **params,
                }
            )
            try:
                *_, last = self._make(cell, spec).reports()
            except DivergedError:
                return {"spec": spec.to_json(), "val_accuracy": 0.0, "val_loss": math.inf}
            return {
                "spec": {**spec.to_json(), "interpolation": last.interpolation},
                "val_accuracy": last.val_accuracy,
                "val_loss": last.val_loss,
            }

        return self._once({**cell.__dict__, "recipe": recipe, "trial": number}, measure)

    def _make(self, cell: Cell, spec: TrialSpec) -> Trial:
        images = self.images(cell.dataset)
        backbone = self.backbone(cell.network, cell.image_size)
        return Trial(spec, images, backbone, cache=self._cache, probes=self._probes)

    def _hits(self, cell: Cell, predicted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        images = self.images(cell.dataset)
        hits: npt.NDArray[np.bool_] = predicted == images.labels[images.indices(Split.TEST)]
        return hits

    def _once(self, about: dict[str, Any], measure: Any) -> dict[str, Any]:
        """A result that is known, or measured now and written down."""
        if _key(about) not in self._known:
            began = time.perf_counter()
            result = {**about, **measure(), "seconds": round(time.perf_counter() - began, 1)}
            with self._out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            self._known[_key(about)] = result
            shown = {key: value for key, value in result.items() if key not in ("correct", "spec")}
            print(json.dumps(shown), file=sys.stderr, flush=True)
        return self._known[_key(about)]


_IDENTITY = (
    *("network", "dataset", "image_size", "budget", "recipe"),
    *("draws", "trial", "refit", "draw", "choice", "developing"),
)


def _key(about: Mapping[str, Any]) -> str:
    return json.dumps({name: about.get(name) for name in _IDENTITY}, sort_keys=True)


def read_results(file: Path) -> list[dict[str, Any]]:
    """What was measured so far; nothing where there is no such file."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def read_folder(folder: Path) -> LabelledExamples:
    """Images in class folders; `TEST_SHARE` of them, drawn by their content, are for the test."""
    classes = sorted(each for each in folder.iterdir() if each.is_dir())
    files = [
        (label, file)
        for label, each in enumerate(classes)
        for file in sorted(each.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    contents = [file.read_bytes() for _, file in files]
    return LabelledExamples.from_bytes(
        contents,
        labels=[label for label, _ in files],
        split=[
            Split.TEST if _uniform(content, "test") < TEST_SHARE else Split.POOL
            for content in contents
        ],
        class_names=[each.name for each in classes],
        paths=[str(file.relative_to(folder)) for _, file in files],
    )


def development_half(images: LabelledExamples) -> LabelledExamples:
    """The pool alone, half of it in the place of the test split."""
    pool = images.at(images.indices(Split.POOL))
    half = [
        Split.TEST if _uniform(digest.tobytes(), "half") < 0.5 else Split.POOL
        for digest in pool.digests
    ]
    return replace(pool, split=np.asarray(half, dtype=np.int64))


def _uniform(content: bytes, key: str) -> float:
    digest = hashlib.blake2b(content, key=key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pack(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Which test images came out right, as JSON values."""
    return {"number": len(hits), "bits": base64.b64encode(np.packbits(hits).tobytes()).decode()}


def _unpacked(packed: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
    return np.unpackbits(bits, count=packed["number"]).astype(bool)


def best_of(trials: Sequence[_Trial]) -> _Trial:
    """The trial that validates best: by accuracy, then by the lower log loss."""
    return min(trials, key=lambda trial: (-trial["val_accuracy"], trial["val_loss"]))


def hits_of(results: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """(draws, test images) whether each came out right, of results in the order of draws."""
    return np.stack([_unpacked(each) for result in results for each in result["correct"]])


def run(given: argparse.Namespace) -> None:
    """Measure what is missing, the cheap cells first."""
    sets = dict(each.split("=", 1) for each in given.set)
    folders = {name: Path(place.rpartition(":")[0]) for name, place in sets.items()}
    sizes = {name: int(place.rpartition(":")[2]) for name, place in sets.items()}
    bench = Bench(given.out, weights=given.weights, folders=folders)
    cells = [
        Cell(network, name, sizes[name], budget)
        for network in given.networks
        for budget in given.budgets
        for name in sorted(sets, key=sizes.__getitem__)
    ]
    for draw in range(given.draws):  # all cells of a draw before the next one
        for cell in cells:
            for recipe in given.recipes:
                if recipe == "probe":
                    bench.probe(cell, given.draws)
                elif recipe == "expert":
                    bench.expert(cell, draw)
                else:
                    best = bench.search(cell, recipe)
                    bench.refit(cell, recipe, best, draw)


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--weights", type=Path, required=True)
    running.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER:SIZE")
    running.add_argument("--networks", nargs="+", default=["lite0"], choices=BACKBONES)
    running.add_argument("--budgets", nargs="+", type=int, default=[20, 5, 50])
    running.add_argument("--draws", type=int, default=10)
    running.add_argument(
        "--recipes",
        nargs="+",
        default=["probe", "current", "expert"],
        choices=["probe", *AXES, "expert"],
    )
    running.add_argument("--out", type=Path, default=RESULTS)
    showing = commands.add_parser("table")
    showing.add_argument("file", type=Path, nargs="?", default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "table":
        from benchmarks.recipe_table import table

        print(table(read_results(given.file)))
    else:
        run(given)


if __name__ == "__main__":
    main()
