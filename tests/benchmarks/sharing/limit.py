"""Arithmetic that no schedule can avoid, and the time that this machine takes for it.

Each image passes the frozen blocks once; if several cuts are tried, the pass to the deepest cut
includes the shallower ones. Every update has a forward and a backward pass through the trained
blocks, counted as torch runs it, that is without a gradient of the frozen blocks' output. An image
that is drawn twice for an update counts once. Every report has a forward pass over the validation
images. Only convolutions and matrix products count; optimizers and decoding do not.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.sharing.work import (
    EVALUATION_BATCH,
    IMAGE_SIZE,
    NUM_CLASSES,
    SLOTS,
    Parts,
    Work,
    halves,
    load_network,
    to_training,
)

PARTS = ("frozen part", "updates", "reports")

Key = tuple[str, int, int]
"""A kind of pass: one of `PARTS`, the number of frozen blocks, and the number of images."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Cost of one pass.

    Attributes:
        flops: floating-point operations.
        seconds: median of several passes in one thread, while the other slots are equally busy.
    """

    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """Total cost of one of `PARTS`.

    Attributes:
        part: the part.
        flops: floating-point operations.
        seconds: time that they take with all slots busy.
    """

    part: str
    flops: float
    seconds: float


def least(path: Path, *, times: int) -> list[Share]:
    """The total cost of each part of the work in a file.

    Args:
        path: path of the work file.
        times: number of passes of each kind that are timed.
    """
    counts = needed_passes(Work.load(path))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SLOTS, mp_context=context) as pool:
        runs = [pool.submit(measure, path, list(counts), times) for _ in range(SLOTS)]
        measured = [run.result() for run in runs]
    shares = []
    for part in PARTS:
        keys = [key for key in counts if key[0] == part]
        flops = sum(counts[key] * measured[0][key].flops for key in keys)
        # Each slot does passes at its own speed, until the slots together have done all passes.
        seconds = sum(counts[key] / sum(1 / one[key].seconds for one in measured) for key in keys)
        shares.append(Share(part=part, flops=flops, seconds=seconds))
    return shares


def needed_passes(work: Work) -> dict[Key, float]:
    """Number of passes of each kind that the trials need."""
    counts: dict[Key, float] = {}

    def need(key: Key, number: float) -> None:
        counts[key] = counts.get(key, 0.0) + number

    frozen = [trial.num_frozen for trial in work.trials if trial.num_frozen]
    if frozen:  # subsets nest: the largest one has the images of all others
        folds = [fold for parts in work.folds.values() for fold in parts]
        images = len({name for fold in folds for name in (*fold.train, *fold.val)})
        size = min(images, EVALUATION_BATCH)
        need((PARTS[0], max(frozen), size), images / size)
    for trial in work.trials:
        for fold in work.folds[trial.budget]:
            distinct = expected_distinct(fold)
            size = round(distinct)
            need((PARTS[1], trial.num_frozen, size), work.task.steps * distinct / size)
            size = min(len(fold.val), EVALUATION_BATCH)
            number = work.task.reports * len(fold.val) / size
            need((PARTS[2], trial.num_frozen, size), number)
    return counts


def expected_distinct(fold: Parts) -> float:
    """Expected number of distinct images in an update, which draws with replacement."""
    count = len(fold.train)
    return count * (1 - (1 - 1 / count) ** fold.batch_size)


def measure(path: Path, keys: list[Key], times: int) -> dict[Key, Pass]:
    """Measure the cost of passes in this process."""
    torch.set_num_threads(1)
    network = load_network(Work.load(path).weights)
    costs = {}
    for part, num_frozen, size in keys:
        frozen, learning = halves(network, num_frozen)
        images = torch.randn(size, 3, IMAGE_SIZE, IMAGE_SIZE)
        with torch.no_grad():
            activations = frozen(images)
        if part == PARTS[0]:
            costs[part, num_frozen, size] = cost(_forward(frozen, images), times=times)
        elif part == PARTS[1]:
            costs[part, num_frozen, size] = cost(_update(learning, activations), times=times)
        else:
            costs[part, num_frozen, size] = cost(
                _forward(learning.eval(), activations), times=times
            )
    return costs


def _forward(module: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> object:
        return module(images)

    return run


def _update(module: torch.nn.Module, activations: torch.Tensor) -> Callable[[], object]:
    to_training(module)
    labels = torch.arange(len(activations)) % NUM_CLASSES

    def run() -> None:
        module.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(module(activations.clone()), labels)
        loss.backward()  # type: ignore[no-untyped-call]

    return run


def cost(run: Callable[[], object], *, times: int) -> Pass:
    """FLOPs of one call, and the median seconds of several."""
    with FlopCounterMode(display=False) as counter:  # this call also warms up
        run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Pass(flops=float(counter.get_total_flops()), seconds=statistics.median(seconds))
